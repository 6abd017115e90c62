"""Functions of the user's that are given as such: the name by which workers find them."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dpbench import Grid, user_code
from dpbench.datasets import resolution
from dpbench.errors import BadInput, UserCodeError

FILE = """
import numpy as np
from torch import nn

import dpbench


def make(width=3):
    return nn.Linear(4, width)


def load(root):
    data = (np.eye(4), np.arange(4) % 3)
    return dpbench.Data(train=data, test=data)


def outer():
    def inner():
        pass

    return inner


short = lambda: None  # noqa: E731
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "mine.py").write_text(FILE)
    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mine", module)
    spec.loader.exec_module(module)
    return module


def test_a_function_of_a_file_has_its_name(mine: ModuleType, tmp_path: Path) -> None:
    assert user_code.named(mine.make) == f"{tmp_path}/mine.py:make"
    assert user_code.find(user_code.named(mine.make)).name == "mine.py:make"
    assert resolution.dataset(mine.load, tmp_path) == "mine.py:load"


def test_a_grid_takes_functions_and_shows_no_folder(mine: ModuleType, tmp_path: Path) -> None:
    grid = Grid(model=[mine.make, "mlp"], model_args={"width": [3, 4]})
    assert grid.model == (f"{tmp_path}/mine.py:make", "mlp")
    assert repr(grid) == "Grid(model=['mine.py:make', 'mlp'], model_args={'width': [3, 4]})"


def test_a_function_of_a_package_has_the_name_of_its_module() -> None:
    assert user_code.named(user_code.named) == "dpbench.user_code.reference:named"


@pytest.mark.parametrize(
    "function",
    [lambda mine: mine.outer(), lambda mine: mine.short, lambda mine: mine.make.__call__],
    ids=["inner", "lambda", "method"],
)
def test_what_no_other_process_finds_is_refused(
    mine: ModuleType, function: Callable[[ModuleType], Any]
) -> None:
    with pytest.raises(BadInput, match=r"write it into a file, such as mine.py"):
        Grid(model=function(mine))


def test_a_function_of_a_notebook_is_refused(
    mine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mine, "__file__")
    with pytest.raises(BadInput, match="%%writefile"):
        Grid(model=mine.make)


def test_a_file_that_begins_a_sweep_when_it_is_imported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        FILE + "\ndpbench.run_sweep(model=make, dataset=load, progress=False)\n"
    )
    with pytest.raises(UserCodeError, match='below if __name__ == "__main__"'):
        user_code.function(user_code.find("mine.py:make", tmp_path))
