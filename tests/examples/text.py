"""A text classifier on tokens: embeddings, averaged over the words, and two layers."""

from pathlib import Path

import torch
from torch import Tensor, nn

import dpbench

WORDS, LENGTH = 200, 12


class Classifier(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(WORDS, width)
        self.hidden = nn.Linear(width, width)
        self.logits = nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        words: Tensor = self.embeddings(tokens)  # [B, LENGTH] -> [B, LENGTH, width]
        logits: Tensor = self.logits(torch.tanh(self.hidden(words.mean(dim=1))))
        return logits  # [B, 2]


def load(root: Path) -> dpbench.Data:
    """Texts of which one half draws its words from the lower half of the vocabulary more often."""
    del root
    draws = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 2, (200,), generator=draws)
    low = torch.rand(200, LENGTH, generator=draws) < 0.2 + 0.6 * classes[:, None]
    tokens = torch.randint(0, WORDS // 2, (200, LENGTH), generator=draws) + low * (WORDS // 2)
    return dpbench.Data(train=(tokens[:150], classes[:150]), test=(tokens[150:], classes[150:]))
