"""A user's own loss: every engine clips its gradients, and rows have no accuracy."""

from pathlib import Path

import pytest
import torch
from torch import nn

from dpbench import Grid, engines, losses
from dpbench.datasets import loading, user_data
from dpbench.errors import BadInput
from dpbench.execution import grid_trials, user_checks
from dpbench.training import loop
from dpbench.trial import Trial

FILE = """
import numpy as np
from torch import nn

import dpbench


def make():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def load(root):
    inputs = np.random.default_rng(0).normal(size=(30, 4))
    data = (inputs, inputs[:, 0] * 2)
    return dpbench.Data(train=data, test=data)


def squared(output, target):
    return (output[:, 0] - target) ** 2


def mean(output, target):
    return squared(output, target).mean()


def one(output):
    return output
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    user_data.introduce("mine.py:load", tmp_path, tmp_path)
    return tmp_path


def trials(folder: Path, loss: str, **axes: object) -> list[Trial]:
    asked = {"noise_multiplier": 0.0, "max_grad_norm": 1.0, "batch_size": 10, "epochs": 2}
    whole = Grid(
        loss=f"{folder}/mine.py:{loss}",
        model=f"{folder}/mine.py:make",
        **(asked | axes),  # type: ignore[arg-type]
    )
    return grid_trials.trials([whole], "mine.py:load")


def test_a_trial_has_a_loss_and_no_accuracy(folder: Path) -> None:
    (trial,) = trials(folder, "squared", baseline=False, learning_rate=0.05)
    assert (trial.loss, trial.engine) == ("mine.py:squared", "bookkeeping")
    user_checks.check([trial], folder)
    first, last = loop.train(trial, loading.load("mine.py:load", folder, "cpu"))
    assert last.test_accuracy is None
    assert first.test_loss is not None
    assert last.test_loss is not None
    assert last.test_loss < first.test_loss


@pytest.mark.parametrize(
    "engine", [name for name in engines.names() if not name.startswith("fused")]
)
def test_every_engine_takes_the_step_of_the_loss(folder: Path, engine: str) -> None:
    (trial, *_) = trials(folder, "squared", engine=engine, baseline=False, learning_rate=0.05)
    data = loading.load("mine.py:load", folder, "cpu")
    inputs, targets = data.train
    torch.manual_seed(0)
    model, plain = (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)) for _ in range(2))
    plain.load_state_dict(model.state_dict())
    built = engines.build(trial, model, noise=torch.Generator())
    summed = [torch.zeros_like(each) for each in plain.parameters()]
    for example in range(len(targets)):
        loss = losses.of(trial)(
            plain(inputs[example : example + 1]), targets[example : example + 1]
        )
        parts = torch.autograd.grad(loss.sum(), list(plain.parameters()))
        norm = torch.linalg.vector_norm(torch.stack([part.norm() for part in parts]))
        factor = 1.0 if not trial.private else min(1.0, float(1 / norm))
        summed = [each + factor * part for each, part in zip(summed, parts, strict=True)]
    built.step(inputs, targets)
    expected = [
        each - trial.learning_rate * part / trial.batch_size
        for each, part in zip(plain.parameters(), summed, strict=True)
    ]
    stepped = [each for each in model.parameters() if each.requires_grad]
    for each, wanted in zip(stepped, expected, strict=True):
        torch.testing.assert_close(each, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            "mean",
            r"loss=mine.py:mean: Expected the loss to be one number an example, \[8\], not float32",
        ),
        ("one", r"to take two arguments: def one\(output, target\)"),
        ("squard", r"did you mean squared\?"),
    ],
)
def test_bad_losses_are_refused(folder: Path, loss: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        user_checks.check(trials(folder, loss), folder)


def test_numbers_need_a_loss(folder: Path) -> None:
    asked = Grid(model=[f"{folder}/mine.py:make"], noise_multiplier=[1.0], batch_size=[10])
    with pytest.raises(
        BadInput, match=r"targets of classes, int64 \[B\], and not float32 \[8\].*--loss"
    ):
        user_checks.check(grid_trials.trials([asked], "mine.py:load"), folder)
