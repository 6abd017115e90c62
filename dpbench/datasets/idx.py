"""The IDX format of MNIST, and of the datasets that were made as its replacements."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpbench.datasets import torchvision_reader

if TYPE_CHECKING:
    from torch import Tensor

TRAIN_EXAMPLES, TEST_EXAMPLES = 60_000, 10_000
IMAGE = (28, 28)

_SHAPES: Mapping[str, tuple[int, ...]] = {
    "train-images-idx3-ubyte": (TRAIN_EXAMPLES, *IMAGE),
    "train-labels-idx1-ubyte": (TRAIN_EXAMPLES,),
    "t10k-images-idx3-ubyte": (TEST_EXAMPLES, *IMAGE),
    "t10k-labels-idx1-ubyte": (TEST_EXAMPLES,),
}


@dataclass(frozen=True, slots=True)
class IdxFiles:
    """Four IDX files with MNIST's names and sizes. A `Source`.

    Attributes:
        name: Of torchvision's class, and of its folder below the data root.
    """

    name: str

    def files(self, data_root: Path) -> dict[Path, tuple[int, ...]]:
        """The paths of the unpacked files, and the shape of the bytes in each.

        Training images [N, 28, 28], training labels [N], test images, test labels.
        """
        return {self._folder(data_root) / name: shape for name, shape in _SHAPES.items()}

    def present(self, data_root: Path) -> bool:
        """As `Source.present`."""
        return all(
            path.is_file() or path.with_name(f"{path.name}.gz").is_file()
            for path in self.files(data_root)
        )

    def unpacked(self, data_root: Path) -> bool:
        """As `Source.unpacked`: all files are there, and whole."""
        return all(
            path.is_file() and path.stat().st_size == len(header(shape)) + math.prod(shape)
            for path, shape in self.files(data_root).items()
        )

    def read(self, data_root: Path) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
        """As `Source.read`: uint8 [N, 1, 28, 28] and int64 [N]."""
        if self.unpacked(data_root):  # importing torchvision takes each worker a second
            read = [_bytes(path, shape) for path, shape in self.files(data_root).items()]
            train_images, train_labels, test_images, test_labels = read
        else:
            train, test = torchvision_reader.read(self.name, data_root)
            train_images, train_labels = train.data, train.targets
            test_images, test_labels = test.data, test.targets
        return (
            (train_images[:, None], train_labels.long()),
            (test_images[:, None], test_labels.long()),
        )

    def remedy(self, data_root: Path) -> str:
        """As `Source.remedy`."""
        return f"Put its four .gz files into {self._folder(data_root)}"

    def _folder(self, data_root: Path) -> Path:
        return data_root / self.name / "raw"


def header(shape: tuple[int, ...]) -> bytes:
    """The first bytes of an IDX file of unsigned bytes of that shape; the bytes follow them."""
    unsigned_byte = 0x0800
    return b"".join(each.to_bytes(4, "big") for each in (unsigned_byte + len(shape), *shape))


def _bytes(path: Path, shape: tuple[int, ...]) -> "Tensor":
    """The file's bytes, uint8 of that shape.

    Raises:
        ValueError: The file has another header.
    """
    import torch

    content, expected = np.fromfile(path, np.uint8), header(shape)
    if content[: len(expected)].tobytes() != expected:
        raise ValueError(f"{path.name} does not begin as an IDX file of bytes {list(shape)}")
    return torch.from_numpy(content[len(expected) :].reshape(shape))
