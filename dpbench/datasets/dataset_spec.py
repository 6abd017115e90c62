"""What the file of a dataset says of it. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]  # of one example, without the batch
Kind = Literal["pixels", "features", "tokens"]


class Source(Protocol):
    """Where a dataset's examples come from: files below a data root, or a package."""

    def present(self, data_root: Path) -> bool:
        """Whether the examples are there, as unpacked files or as archives."""
        ...

    def unpacked(self, data_root: Path) -> bool:
        """Whether several processes can read the examples at once, without unpacking files."""
        ...

    def read(
        self, data_root: Path
    ) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":  # (training set, test set)
        """(inputs, targets) of the training set and of the test set, on the CPU.

        Files that are not there are downloaded, if a mirror answers.

        Raises:
            OSError, RuntimeError, EOFError, zlib.error, AssertionError, ValueError: The files are
                not there, or hold something else.
        """
        ...

    def remedy(self, data_root: Path) -> str:
        """Which files to put where. An imperative without a full stop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """A built-in dataset.

    Attributes:
        title: For a reader, such as `Fashion-MNIST`.
        train_examples: N, the size of the training set.
        test_examples: Size of the test set.
        input_shape: Of one example: (channels, height, width) of pixels, (features,), or (length,)
            of tokens.
        classes: Targets are 0 to classes - 1.
        kind: What inputs are: uint8 pixels, float32 features, or int64 token ids.
        vocabulary: Token ids are 0 to vocabulary - 1; None for other kinds.
        mean: Of pixels from 0 to 1, one number a channel, or of each feature; subtracted from them.
            Empty for tokens.
        std: Their standard deviation, as many numbers; divides them.
        origin: Where `mean` and `std` come from: the end of the sentence `preprocessing`.
        model: Name of the model that is trained by default.
        sweep: Axes of the default sweep, as `Grid` has them.
        source: Where the examples come from.
        stands_in_for: Name of a dataset that this one replaces under `--dataset auto`, where the
            files of that one cannot be had.
    """

    title: str
    train_examples: int
    test_examples: int
    input_shape: Shape
    classes: int
    kind: Kind = "pixels"
    vocabulary: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    origin: str = ""
    model: str
    sweep: Mapping[str, Any]
    source: Source
    stands_in_for: str | None = None

    @property
    def preprocessing(self) -> str | None:
        """A sentence on the constants that normalise inputs; None where there are none.

        Constants that were computed from private examples without noise are not covered by any
        epsilon.
        """
        if not self.mean:
            return None
        if self.kind == "features":
            return f"Features are standardised by constants, {self.origin}."
        mean, std = (
            str(each[0]) if len(each) == 1 else str(each) for each in (self.mean, self.std)
        )
        return f"Pixels are normalised by the constants {mean} and {std}, {self.origin}."


def own_constants(title: str, inputs: str = "pixels") -> str:
    """`DatasetSpec.origin` of constants that were computed from the training set itself."""
    return (
        f"the mean and standard deviation of {title}'s training {inputs}: they were computed from "
        "the training set without noise, and the guarantee does not cover them"
    )
