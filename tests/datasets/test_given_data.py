"""A `Data` value becomes a file that workers load."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpbench import Data
from dpbench.datasets import loading, resolution, user_data
from dpbench.errors import BadInput

INPUTS, TARGETS = np.arange(24.0).reshape(12, 2), np.arange(12) % 3


def test_a_value_is_named_by_its_content(tmp_path: Path) -> None:
    given = Data(train=(INPUTS, TARGETS), test=(INPUTS[:4], TARGETS[:4]))
    assert resolution.dataset(given, tmp_path) == "given.py:load"
    first = user_data.known("given.py:load")
    assert (first.train_examples, first.classes, first.input_shape) == (12, 3, (2,))
    read = loading.load("given.py:load", tmp_path, "cpu")
    assert torch.equal(read.train[0], torch.from_numpy(INPUTS).float())
    resolution.dataset(Data(train=(INPUTS + 1, TARGETS), test=(INPUTS, TARGETS)), tmp_path)
    assert user_data.known("given.py:load").hash != first.hash
    assert len(list((tmp_path / "given").iterdir())) == 2


def test_a_value_with_a_function_is_refused(tmp_path: Path) -> None:
    given = Data(train=(INPUTS, TARGETS), test=(INPUTS, TARGETS), prepare=lambda batch: batch)
    with pytest.raises(BadInput, match="Expected Data without prepare"):
        resolution.dataset(given, tmp_path)
    with pytest.raises(BadInput, match=r"test set of the Data that is given.*it is empty"):
        resolution.dataset(Data(train=(INPUTS, TARGETS), test=([], [])), tmp_path)
