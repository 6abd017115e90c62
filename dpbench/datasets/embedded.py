"""Datasets that come with scikit-learn, which this package requires: they need no download."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Embedded:
    """Examples that are always there. A `Source`.

    Attributes:
        examples: Reads all inputs [N, ...] and targets [N].
        train_examples: The first so many of them are the training set, the others the test set.
    """

    examples: "Callable[[], tuple[Tensor, Tensor]]"
    train_examples: int

    def present(self, _data_root: Path) -> bool:
        """As `Source.present`."""
        return True

    def unpacked(self, _data_root: Path) -> bool:
        """As `Source.unpacked`."""
        return True

    def read(self, _data_root: Path) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
        """As `Source.read`."""
        inputs, targets = self.examples()
        size = self.train_examples
        return (inputs[:size], targets[:size]), (inputs[size:], targets[size:])

    def remedy(self, _data_root: Path) -> str:
        """As `Source.remedy`."""
        return "Install scikit-learn"
