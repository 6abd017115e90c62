"""The user's own dataset: what its function returns, checked, and what identifies it.

def load(root: Path) -> dpbench.Data: ...
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import user_code
from dpbench.datasets.data import Data
from dpbench.datasets.dataset_spec import DatasetSpec, Shape
from dpbench.errors import BadInput
from dpbench.user_code import Code

if TYPE_CHECKING:
    from torch import Tensor

RECIPE = "1"  # of the hash: a change of it runs every trial on users' data again
PARTS = ("train", "test", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDataset:
    """A dataset of the user's, as it travels to workers.

    Attributes:
        code: Of the function that loads it.
        hash: Of its tensors, and of the source where there is a `prepare`.
        train_examples: N, the size of the training set.
        test_examples: Size of the test set.
        validation_examples: Size of the validation set that it brings; 0 where it brings none.
        input_shape: Of one example, as the model is given it.
        classes: Targets are 0 to classes - 1; 1 where they are numbers.
        numbers: Whether targets are numbers and no classes.
        vocabulary: Inputs are token ids from 0 to vocabulary - 1; None where they are numbers.
    """

    code: Code
    hash: str
    train_examples: int
    test_examples: int
    validation_examples: int
    input_shape: Shape
    classes: int
    numbers: bool
    vocabulary: int | None

    @property
    def name(self) -> str:
        """As it is shown and stored, such as `mine.py:load`."""
        return self.code.name

    @property
    def spec(self) -> DatasetSpec:
        """As of a built-in dataset."""
        return DatasetSpec(
            title=self.code.name,
            train_examples=self.train_examples,
            test_examples=self.test_examples,
            input_shape=self.input_shape,
            classes=self.classes,
            kind="features" if self.vocabulary is None else "tokens",
            vocabulary=self.vocabulary,
            model="",
            sweep=_sweep(self.train_examples),
            source=_Function(self.code),
        )


def _sweep(examples: int) -> Mapping[str, Any]:
    """Axes of the default sweep: batches near the square root of N, and four times as large."""
    small = min(examples, 2 ** round(0.5 * examples.bit_length()))
    sizes = dict.fromkeys((small, min(examples, 4 * small)))
    return {
        "noise_multiplier": [1.0, 2.0, 4.0],
        "max_grad_norm": [0.5, 1.0, 2.0],
        "batch_size": list(sizes),
        "epochs": 10,
    }


@dataclass(frozen=True, slots=True)
class _Function:
    """A `Source` that is a function of the user's; nobody but that knows its files."""

    code: Code

    def present(self, _data_root: Path) -> bool:
        return True

    def unpacked(self, _data_root: Path) -> bool:
        return True

    def read(self, data_root: Path) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
        """As `Source.read`."""
        data = load(self.code, data_root)
        return data.train, data.test

    def remedy(self, _data_root: Path) -> str:
        return f"Correct {self.code.name}"


_known = user_code.Known[UserDataset]("dataset")
admit, known = _known.admit, _known.named


def introduce(text: str, data_root: Path, folder: Path | None = None) -> UserDataset:
    """Loads the user's dataset twice, checks it, and makes it known in this process.

    Args:
        text: `FILE.py:function` or `package.module:function`.
        data_root: What the function is given.
        folder: That a relative path starts from; None for the current one.

    Raises:
        BadInput: There is no such function, it returns no usable data, or other data each time.
        UserCodeError: It raises an error.
    """
    code = user_code.find(text, folder)
    data, again = load(code, data_root), load(code, data_root)
    digest = data_hash(data, code.hash)
    if data_hash(again, code.hash) != digest:
        raise BadInput(
            f"{code.name} returns other data the second time ({_difference(data, again)}): trials "
            "must train on the same examples. Seed what it draws, and sort what it lists."
        )
    dataset = _described(data, code, digest)
    admit(dataset)
    return dataset


def load(code: Code, data_root: Path) -> Data:
    """What the user's function returns, as tensors on the CPU.

    Raises:
        BadInput: It does not take one argument, or returns no usable data.
        UserCodeError: It raises an error.
    """
    if code.parameters is not None and not (code.parameters and len(code.required) <= 1):
        raise BadInput(
            f"Expected {code.name} to take one argument, the folder of the data: "
            f"def {code.function}(root)."
        )
    data = user_code.call(code, data_root)
    if not isinstance(data, Data):
        raise BadInput(
            f"Expected {code.name} to return dpbench.Data(train=(inputs, targets), test=(inputs, "
            f"targets)), not {type(data).__name__}."
        )
    from dpbench.datasets import user_tensors

    return user_tensors.checked(data, code.name, code)


def data_hash(data: Data, source: str) -> str:
    """Sixteen hex digits of the tensors, and of the source's hash where it prepares batches."""
    import torch

    digest = hashlib.sha256(RECIPE.encode())
    for part in PARTS:
        for tensor in getattr(data, part) or ():
            digest.update(f"\n{part} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy())
    if data.prepare is not None:
        digest.update(source.encode())
    return digest.hexdigest()[:16]


def _described(data: Data, code: Code, digest: str) -> UserDataset:
    import torch

    targets = data.train[1]
    numbers = targets.is_floating_point() or targets.dim() > 1
    highest = max(int(part[1].max()) for part in _parts(data)) if not numbers else 0
    prepared = _prepared(user_code.calling(code, data.prepared, data.train[0][:2]), code)
    # ids only where nothing changes them, since of others the largest is not known
    tokens = prepared.dtype == data.train[0].dtype == torch.int64 and data.prepare is None
    largest = max(int(part[0].max()) for part in _parts(data)) if tokens else 0
    return UserDataset(
        code=code,
        hash=digest,
        train_examples=data.train_examples,
        test_examples=len(data.test[1]),
        validation_examples=0 if data.validation is None else len(data.validation[1]),
        input_shape=tuple(prepared.shape[1:]),
        classes=highest + 1,
        numbers=numbers,
        vocabulary=largest + 1 if tokens and prepared.dim() == 2 else None,
    )


def _parts(data: Data) -> "list[tuple[Tensor, Tensor]]":
    return [part for name in PARTS if (part := getattr(data, name)) is not None]


def _prepared(inputs: Any, code: Code) -> "Tensor":
    import torch

    if not isinstance(inputs, torch.Tensor) or len(inputs) != 2:
        raise BadInput(
            f"Expected prepare of {code.name} to turn inputs [B, ...] into one tensor [B, ...], "
            f"not {type(inputs).__name__}."
        )
    return inputs


def _difference(data: Data, again: Data) -> str:
    """The first part that differs."""
    import torch

    for name in PARTS:
        pairs = zip(getattr(data, name) or (), getattr(again, name) or (), strict=False)
        for what, (one, other) in zip(("inputs", "targets"), pairs, strict=False):
            if one.shape != other.shape or not torch.equal(one, other):
                return f"the {what} of {name} differ"
    return "its parts differ"


def as_known(dataset: UserDataset, data: Data) -> Data:
    """The data, if it is what the dataset was introduced with.

    Raises:
        BadInput: It is not.
    """
    found = data_hash(data, dataset.code.hash)
    if found != dataset.hash:
        raise BadInput(
            f"{dataset.code.name} returns other data in this process than in the one that began "
            "the sweep: sort what it lists, seed what it draws, and do not iterate over sets."
        )
    return data
