import subprocess
import sys
from typing import Any

import pytest
import torch

from dpbench.datasets import Data
from dpbench.errors import BadInput


def pair(examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(3.0 * examples).view(examples, 3), torch.zeros(examples).long()


def test_a_batch_is_prepared() -> None:
    data = Data(train=pair(5), test=pair(2), prepare=lambda inputs: 10 * inputs)
    inputs, targets = data.batch(torch.tensor([4, 0]))
    assert inputs.tolist() == [[120, 130, 140], [0, 10, 20]]
    assert targets.tolist() == [0, 0]
    raw = Data(train=pair(5), test=pair(2)).batch(torch.tensor([0]))
    assert raw[0].tolist() == [[0, 1, 2]]
    assert (data.train_examples, data.device, data.validation) == (5, "cpu", None)


@pytest.mark.parametrize("part", ["train", "test", "validation"])
def test_inputs_without_targets_are_bad_input(part: str) -> None:
    parts: dict[str, Any] = {"train": pair(5), "test": pair(2)} | {part: (pair(4)[0], pair(3)[1])}
    with pytest.raises(BadInput, match=f"Expected {part} to have as many .* 4 and 3"):
        Data(**parts)


def test_names_and_specs_need_no_torch() -> None:
    code = """
import sys
from typing import Any
from dpbench import datasets, models
for name in datasets.names():
    data = datasets.spec(name)
    for model in models.names():
        models.spec(model).refuses(data.input_shape, data.classes, vocabulary=data.vocabulary)
assert datasets.Data
assert "torch" not in sys.modules
models.build("tutorial-cnn", "mnist", seed=0, device="cpu")
assert "torch" in sys.modules  # the check can fail
"""
    subprocess.run([sys.executable, "-c", code], check=True)
