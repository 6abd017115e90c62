"""A user's own dataset: what is taken, what identifies it, and what is refused."""

from pathlib import Path

import pytest
import torch

from dpbench import datasets
from dpbench.datasets import loading, user_data
from dpbench.errors import BadInput, UserCodeError

START = """
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

import dpbench
from dpbench import Data

x, y = np.arange(60.0).reshape(20, 3) / 60, np.arange(20) % 3


"""


def introduced(folder: Path, body: str, argument: str = "root") -> user_data.UserDataset:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "mine.py").write_text(f"{START}def load({argument}):\n{lines}")
    return user_data.introduce("mine.py:load", folder, folder)


WHOLE = "return Data(train=(x, y), test=(x[:5], y[:5]))"


def test_arrays_become_tensors_of_usual_types(tmp_path: Path) -> None:
    found = introduced(tmp_path, WHOLE)
    assert found.code.name == "mine.py:load"
    assert (found.train_examples, found.test_examples) == (20, 5)
    assert (found.input_shape, found.classes) == ((3,), 3)
    data = loading.load("mine.py:load", tmp_path, "cpu", validation_examples=4)
    assert data.train[0].dtype == torch.float32
    assert data.train[1].dtype == torch.int64
    assert data.validation is not None
    assert (data.train_examples, len(data.validation[1])) == (16, 4)
    assert datasets.sample_rate("mine.py:load", 4, 4) == 4 / 16


@pytest.mark.parametrize(
    ("inputs", "shape"),
    [
        ("torch.arange(40).view(20, 2)", (2,)),
        ("np.zeros((20, 3, 8, 8), np.uint8)", (3, 8, 8)),
        ("np.zeros((20, 2), np.uint16)", (2,)),
        ("[[1, 2]] * 20", (2,)),
        ("np.zeros((20, 2), bool)", (2,)),
    ],
)
def test_inputs_of_any_shape_and_type(tmp_path: Path, inputs: str, shape: tuple[int, ...]) -> None:
    body = f"inputs = {inputs}\nreturn Data(train=(inputs, y), test=(inputs[:5], y[:5]))"
    assert introduced(tmp_path, body).input_shape == shape


def test_map_style_datasets_are_read_once(tmp_path: Path) -> None:
    found = introduced(
        tmp_path,
        "class Rows(Dataset):\n"
        "    def __len__(self): return len(y)\n"
        "    def __getitem__(self, index): return torch.tensor(x[index]).float(), int(y[index])\n"
        "return Data(train=Rows(), test=Rows())",
    )
    plain = introduced(tmp_path, "return Data(train=(x, y), test=(x, y))")
    assert found.hash == plain.hash


def test_prepare_makes_what_the_model_is_given(tmp_path: Path) -> None:
    found = introduced(tmp_path, WHOLE.replace("test=", "prepare=lambda b: b.mean(1), test="))
    assert found.input_shape == ()
    (inputs, _) = loading.load("mine.py:load", tmp_path, "cpu").batch(torch.arange(2))
    assert inputs.tolist() == pytest.approx([1 / 60, 4 / 60])
    assert found.hash != introduced(tmp_path, WHOLE).hash


def test_the_hash_is_of_the_tensors_and_not_of_the_source(tmp_path: Path) -> None:
    before = introduced(tmp_path, WHOLE).hash
    assert before == "14fff5ce52b65c8b"
    assert introduced(tmp_path, f"z = 1\n{WHOLE}").hash == before
    assert introduced(tmp_path, f"y[0] = 1\n{WHOLE}").hash != before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1", "to return dpbench.Data.* not int"),
        ("return Data(train=(x, y), test=(x, y[:2]))", "as many inputs as targets, not 20 and 2"),
        ("return Data(train=(x, y), test=(x[:0], y[:0]))", "test set .* it is empty"),
        ("return Data(train=(x, y, y), test=(x, y))", "not 3 values"),
        ("x[3, 1] = np.nan\n" + WHOLE, r"inputs in the training set.*1 of 20.*example 3 holds NaN"),
        ("x[3, 1] = np.inf\n" + WHOLE, "example 3 holds an infinite number"),
        ("y[2] = -1\n" + WHOLE, "classes from 0, and the least is -1"),
        ("return Data(train=(x, y[:, None]), test=(x, y))", r"to be \[N\], not \[20, 1\]"),
        ("return Data(train=(x, y), test=(x[:, :2], y))", r"one shape, not \(3,\) in train"),
        ("return Data(train=(x, y), test=(x > 0, y))", "one type, not float64|float32"),
        ("return Data(train=(x.astype(str), y), test=(x, y))", "to be numbers, not ndarray"),
        ("return Data(train=7, test=(x, y))", "map-style Dataset, not int"),
        (
            "r = np.random.default_rng()\nreturn Data(train=(r.random((20, 3)), y), test=(x, y))",
            r"other data the second time \(the inputs of train differ\)",
        ),
        (WHOLE.replace("test=", "prepare=len, test="), "prepare of mine.py:load"),
    ],
)
def test_unusable_data_is_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        introduced(tmp_path, body)


@pytest.mark.parametrize("argument", ["", "root, other"])
def test_a_function_of_other_arguments_is_refused(tmp_path: Path, argument: str) -> None:
    with pytest.raises(BadInput, match=r"to take one argument.*def load\(root\)"):
        introduced(tmp_path, WHOLE, argument)


def test_an_error_in_the_file_shows_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match=r"in load\n    return x\[99\]\n[\s\S]*IndexError"):
        introduced(tmp_path, "return x[99]")


def test_data_that_another_process_loads_differently_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    found = introduced(tmp_path, WHOLE)
    user_data.admit(replace(found, hash="other"))
    with pytest.raises(BadInput, match="other data in this process"):
        loading.load("mine.py:load", tmp_path, "cpu")
