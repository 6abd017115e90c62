"""A user's own model: its name, its arguments, and what is refused."""

from pathlib import Path

import pytest
import torch

from dpbench import models
from dpbench.errors import BadInput, UserCodeError
from dpbench.models import user_models

FILE = """
import random

import torch
from torch import nn


def make(width: int = 4, kind="a"):
    return nn.Linear(3, width)


def needs(width):
    return nn.Linear(3, width)


class Net(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = nn.Linear(3, width)

    def forward(self, x):
        return self.layer(x)


def nothing():
    return 3


def bare():
    return nn.ReLU()


def fails(width=1):
    raise OSError("no")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def test_arguments_are_part_of_the_name(folder: Path) -> None:
    model = user_models.introduce("mine.py:make", {"width": 7, "kind": "b"}, folder)
    assert model.name == "mine.py:make(kind=b, width=7)"
    assert model.fields["model_args"] == '{"kind": "b", "width": 7}'
    built = models.build(model.name, "digits", seed=3, device="cpu")
    again = models.build(model.name, "digits", seed=3, device="cpu")
    assert torch.equal(built.weight, again.weight)  # type: ignore[arg-type]
    assert built.get_parameter("weight").shape == (7, 3)


def test_a_class_is_a_function_that_makes_modules(folder: Path) -> None:
    model = user_models.introduce("mine.py:Net", {"width": 5}, folder)
    assert type(models.build(model.name, "digits", seed=0, device="cpu")).__name__ == "Net"


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("make", {"widht": 1}, r"No argument widht of mine.py:make: did you mean width\?"),
        ("nothing", {"a": 1}, "No argument a of mine.py:nothing: it takes none"),
        ("needs", {}, "--model-args width=VALUE"),
    ],
)
def test_arguments_that_it_does_not_take_are_refused(
    folder: Path, function: str, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        user_models.introduce(f"mine.py:{function}", arguments, folder)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "mine.py:nothing to return an nn.Module, not int"),
        ("bare", "mine.py:bare to have parameters to train"),
    ],
)
def test_what_is_no_model_is_refused(folder: Path, function: str, message: str) -> None:
    model = user_models.introduce(f"mine.py:{function}", {}, folder)
    with pytest.raises(BadInput, match=message):
        models.build(model.name, "digits", seed=0, device="cpu")


def test_an_error_shows_the_users_line(folder: Path) -> None:
    model = user_models.introduce("mine.py:fails", {}, folder)
    with pytest.raises(UserCodeError, match=r'in fails\n    raise OSError\("no"\)\nOSError: no'):
        models.build(model.name, "digits", seed=0, device="cpu")
