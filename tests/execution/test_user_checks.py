"""What is refused of a user's model and data before the first trial."""

from pathlib import Path

import pytest

from dpbench import engines
from dpbench.errors import BadInput
from dpbench.execution import user_checks, workloads
from dpbench.trial import NON_PRIVATE

TOKENS = """
import torch
from torch import nn
import dpbench

class Mean(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.words, self.logits = nn.Embedding(words, 4), nn.Linear(4, 2)

    def forward(self, tokens):
        return self.logits(self.words(tokens).mean(dim=1))

def make(words=50):
    return Mean(words)

def load(root):
    tokens = torch.arange(400).reshape(100, 4) % 37
    {change}
    targets = torch.arange(100) % 2
    return dpbench.Data(train=(tokens[:80], targets[:80]), test=(tokens[80:], targets[80:]))
"""


@pytest.mark.parametrize(
    ("change", "line"),
    {
        "all are known": ("", None),
        "one of the training set": (
            "tokens[79, 3] = 50",
            "token 50 is outside the vocabulary of layer 'words', 50 embeddings for 0 to 49: give "
            "it 51 or more",
        ),
        "one of the test set": ("tokens[90, 0] = 71", "token 71 is outside the vocabulary"),
        "one below zero": ("tokens[50, 0] = -1", "token -1 is below 0"),
    }.values(),
)
def test_a_token_without_an_embedding_is_named(
    change: str, line: str | None, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(TOKENS.replace("{change}", change), encoding="utf-8")
    task = workloads.workload(
        dataset=f"{tmp_path}/mine.py:load",
        model=f"{tmp_path}/mine.py:make",
        model_args=None,
        loss=None,
        data_root=tmp_path,
    )
    trial = engines.timing_trial(NON_PRIVATE, task)
    if line is None:
        user_checks.check([trial], tmp_path)
        return
    with pytest.raises(BadInput) as refused:
        user_checks.check([trial], tmp_path)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
