"""Which datasets there are, how large they are, and whether their files are at hand. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dpbench.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A dataset's sizes and, where it comes in files, torchvision's folder for them.

    Attributes:
        train_examples: N, the size of the training set.
        test_examples: Size of the test set.
        folder: Below the data root; None where the dataset is embedded in a package.
    """

    train_examples: int
    test_examples: int
    folder: str | None


DATASETS: Mapping[str, Entry] = MappingProxyType(
    {
        "mnist": Entry(train_examples=60_000, test_examples=10_000, folder="MNIST"),
        "fashion-mnist": Entry(train_examples=60_000, test_examples=10_000, folder="FashionMNIST"),
        "kmnist": Entry(train_examples=60_000, test_examples=10_000, folder="KMNIST"),
        # scikit-learn's 1,797 handwritten digits in their own order, the last 360 for the test
        "digits": Entry(train_examples=1_437, test_examples=360, folder=None),
    }
)
AUTO = "auto"
MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, as in the tutorial; used for every dataset
FALLBACK = "digits"

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def entry(dataset: str) -> Entry:
    """The dataset's sizes and folder.

    Raises:
        BadInput: There is no such dataset.
    """
    if dataset not in DATASETS:
        raise BadInput(f"Expected dataset={dataset!r} to be one of {', '.join(DATASETS)}.")
    return DATASETS[dataset]


def preprocessing(dataset: str) -> str | None:
    """A sentence on the constants by which pixels are normalised; None of an unknown dataset.

    What was computed from the private examples without noise is not covered by any epsilon.
    """
    if dataset not in DATASETS:
        return None
    constants = f"Pixels are normalised by the constants {MEAN} and {STD}"
    if dataset == "mnist":
        return (
            f"{constants}, the mean and standard deviation of MNIST's training pixels: they were "
            "computed from the training set without noise, and the guarantee does not cover them."
        )
    return f"{constants}, which come from another dataset (MNIST) and not from this one."


def present(dataset: str, data_root: Path) -> bool:
    """Whether the dataset's files, unpacked or as .gz, lie where torchvision looks for them."""
    folder = entry(dataset).folder
    if folder is None:
        return True
    raw = data_root / folder / "raw"
    return all((raw / name).is_file() or (raw / f"{name}.gz").is_file() for name in _FILES)


def files(dataset: str, data_root: Path) -> dict[Path, tuple[int, ...]]:
    """Where the dataset's unpacked files lie, and the shapes of the bytes in each.

    Training images [N, 28, 28], training labels [N], test images, test labels; none of a dataset
    that is embedded.
    """
    known = entry(dataset)
    if known.folder is None:
        return {}
    shapes = [
        shape
        for examples in (known.train_examples, known.test_examples)
        for shape in ((examples, 28, 28), (examples,))
    ]
    raw = data_root / known.folder / "raw"
    return {raw / name: shape for name, shape in zip(_FILES, shapes, strict=True)}


def idx_header(shape: tuple[int, ...]) -> bytes:
    """What an IDX file of bytes of that shape begins with; they follow."""
    of_bytes = 0x0800
    return b"".join(each.to_bytes(4, "big") for each in (of_bytes + len(shape), *shape))


def unpacked(dataset: str, data_root: Path) -> bool:
    """Whether the dataset can be read as it lies there: all its files, whole."""
    return all(
        path.is_file() and path.stat().st_size == len(idx_header(shape)) + math.prod(shape)
        for path, shape in files(dataset, data_root).items()
    )


def train_examples(dataset: str, validation_examples: int = 0) -> int:
    """N: the size of the training set without the examples held out for validation.

    Raises:
        BadInput: Nothing would be left to train on.
    """
    every = entry(dataset).train_examples
    if validation_examples >= every:
        raise BadInput(
            f"Expected validation_examples={validation_examples} < {every:,}, the size of "
            f"{dataset}'s training set."
        )
    return every - validation_examples


def steps_per_epoch(dataset: str, batch_size: int, validation_examples: int = 0) -> int:
    """round(N / batch_size): an epoch draws each example once in expectation.

    Raises:
        BadInput: The batch is larger than the training set.
    """
    examples = train_examples(dataset, validation_examples)
    if batch_size > examples:
        raise BadInput(
            f"Expected batch_size={batch_size} <= {examples:,}, the size of {dataset}'s "
            "training set."
        )
    return round(examples / batch_size)


def sample_rate(dataset: str, batch_size: int, validation_examples: int = 0) -> float:
    """batch_size / N: the probability with which an example joins a Poisson batch."""
    return batch_size / train_examples(dataset, validation_examples)
