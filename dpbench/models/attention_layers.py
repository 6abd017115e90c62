"""The layers of `transformer`, of Linear, LayerNorm and Embedding alone.

Every engine knows the gradients of those by example, and not those of nn.MultiheadAttention, whose
weights no layer of its own holds.
"""

import torch
from torch import Tensor, nn


class Tokens(nn.Module):
    """Embeddings of the tokens plus those of their positions.

    Args:
        length: Of a sequence.
        vocabulary: Number of token ids.
        width: Of an embedding.
    """

    def __init__(self, length: int, vocabulary: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(length, width)
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding.weight, std=0.5**0.5)  # of the sum: one

    def forward(self, tokens: Tensor) -> Tensor:
        """Int64 [B, length] -> [B, length, width]."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        # one row an example: an engine counts the examples of each layer's inputs
        of_each = positions.expand(len(tokens), -1).contiguous()
        embedded: Tensor = self.token(tokens) + self.position(of_each)
        return embedded


class Layer(nn.Module):
    """Self-attention and a perceptron, each with a LayerNorm before and a shortcut beside it.

    Args:
        width: Of an embedding.
        heads: Of the attention; they share the width.
        hidden: Units of the perceptron.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.perceptron_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projections = nn.Linear(width, 3 * width)  # to queries, keys and values
        self.output = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, embedded: Tensor) -> Tensor:
        """[B, T, width] -> [B, T, width]."""
        embedded = embedded + self._attention(self.attention_norm(embedded))
        out: Tensor = embedded + self.perceptron(self.perceptron_norm(embedded))
        return out

    def _attention(self, embedded: Tensor) -> Tensor:
        projected = self.projections(embedded)  # [B, T, 3 width]
        split = projected.unflatten(2, (3, self.heads, -1))  # [B, T, 3, heads, width / heads]
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # each [B, heads, T, width / heads]
        # written out: torch.func.vmap, by which some engines work, is slow on torch's own function
        scores = queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5  # [B, heads, T, T]
        mixed = scores.softmax(dim=3) @ values
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # [B, T, width]
        return out


class Mean(nn.Module):
    """The mean over the tokens of a sequence."""

    def forward(self, embedded: Tensor) -> Tensor:
        """[B, T, width] -> [B, width]."""
        return embedded.mean(dim=1)
