"""Arrays, tensors and map-style Datasets of the user's -> checked tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpbench.datasets.data import Data
from dpbench.errors import BadInput, UserCodeError
from dpbench.user_code import Code, importing

_NAMES = {"train": "training set", "test": "test set", "validation": "validation set"}


def checked(data: Data, name: str, code: Code | None = None) -> Data:
    """The data as tensors on the CPU: classes are int64, and float64 inputs float32.

    Args:
        data: As the user gives it.
        name: Of it, for messages.
        code: Of the function that returns it, whose lines are shown where a Dataset raises an
            error.

    Raises:
        BadInput: A set is empty, holds what is no number or not finite, or has more inputs than
            targets or fewer; or the sets do not go together.
    """
    found = {
        part: _examples(getattr(data, part), f"the {_NAMES[part]} of {name}", code)
        for part in _NAMES
        if getattr(data, part) is not None
    }
    shapes = {part: tuple(inputs.shape[1:]) for part, (inputs, _) in found.items()}
    types = {part: (inputs.dtype, targets.dtype) for part, (inputs, targets) in found.items()}
    for part in found:
        if shapes[part] != shapes["train"]:
            raise BadInput(
                f"Expected the inputs of {name} to have one shape, not {shapes['train']} in "
                f"train and {shapes[part]} in {part}."
            )
        if types[part] != types["train"]:
            raise BadInput(
                f"Expected the sets of {name} to have one type, not "
                f"{_types(types['train'])} in train and {_types(types[part])} in {part}."
            )
    return Data(**found, prepare=data.prepare)


def _examples(examples: Any, where: str, code: Code | None) -> tuple[Tensor, Tensor]:
    """The inputs [N, ...] and targets [N] of one set."""
    if not isinstance(examples, tuple | list):
        examples = _read(examples, where, code)
    inputs = _tensor(examples[0], f"the inputs in {where}")
    targets = _tensor(examples[1], f"the targets in {where}")
    if not (inputs.dim() and targets.dim()):
        raise BadInput(f"Expected {where} to be inputs [N, ...] and targets [N], not one number.")
    if len(inputs) != len(targets):
        raise BadInput(
            f"Expected {where} to have as many inputs as targets, not {len(inputs):,} and "
            f"{len(targets):,}."
        )
    if not len(targets):
        raise BadInput(f"Expected {where} to hold examples, and it is empty.")
    _refuse_infinite(inputs, f"the inputs in {where}")
    _refuse_infinite(targets, f"the targets in {where}")
    inputs = inputs.float() if inputs.dtype == torch.float64 else inputs
    return inputs.contiguous(), _targets(targets, where)


def _targets(targets: Tensor, where: str) -> Tensor:
    if targets.is_floating_point():
        return targets.float().contiguous()
    if targets.dim() == 2 and targets.shape[1] == 1:
        raise BadInput(
            f"Expected the classes in {where} to be [N], not {list(targets.shape)}: give "
            "targets[:, 0]."
        )
    low = int(targets.min())
    if low < 0:
        raise BadInput(
            f"Expected the targets in {where} to be classes from 0, and the least is {low}."
        )
    return targets.long().contiguous()


def _read(dataset: Any, where: str, code: Code | None) -> tuple[Any, Any]:
    """All examples of a map-style Dataset, of which each is (input, target)."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise BadInput(
            f"Expected {where} to be (inputs, targets) or a map-style Dataset, not "
            f"{type(dataset).__name__}."
        )
    if not len(dataset):
        raise BadInput(f"Expected {where} to hold examples, and it is empty.")
    try:
        items = [dataset[index] for index in range(len(dataset))]
    except Exception as error:
        if code is None:
            raise  # it is the caller's own
        raise UserCodeError(importing.raised(code, error)) from error
    for item in items[:1]:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise BadInput(
                f"Expected each example of {where} to be (input, target), not "
                f"{type(item).__name__}."
            )
    inputs = [_tensor(item[0], f"an input in {where}") for item in items]
    shapes = {tuple(each.shape) for each in inputs}
    if len(shapes) > 1:
        raise BadInput(
            f"Expected the inputs in {where} to have one shape, not {len(shapes)} of them: pad or "
            "crop them."
        )
    targets = [_tensor(item[1], f"a target in {where}") for item in items]
    return torch.stack(inputs), torch.stack(targets)


def _tensor(values: Any, what: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise BadInput(
            f"Expected {what} to be numbers, not {type(values).__name__} of {array.dtype}: turn "
            "them into a tensor or a numpy array of numbers."
        )
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # torch computes little with these
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array))  # a copy, which torch may write to


def _refuse_infinite(values: Tensor, what: str) -> None:
    if not values.is_floating_point() or bool(torch.isfinite(values).all()):
        return
    rows = ~torch.isfinite(values).reshape(len(values), -1).all(dim=1)
    first = int(rows.nonzero()[0])
    nan = "NaN" if bool(values[first].isnan().any()) else "an infinite number"
    raise BadInput(
        f"Expected {what} to be finite, and {int(rows.sum()):,} of {len(values):,} examples are "
        f"not: example {first} holds {nan}. Fill in or drop them."
    )


def _types(types: tuple[torch.dtype, torch.dtype]) -> str:
    return " and ".join(str(each).removeprefix("torch.") for each in types)
