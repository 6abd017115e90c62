"""Datasets: one file each, which exports a `DatasetSpec`. Their names and sizes need no torch.

`loading` reads their examples.
"""

from pathlib import Path

from dpbench import plugins, user_code
from dpbench.datasets import user_data
from dpbench.datasets.data import Data
from dpbench.datasets.dataset_spec import DatasetSpec
from dpbench.errors import BadInput

__all__ = [
    "AUTO",
    "DEFAULT",
    "Data",
    "DatasetSpec",
    "data_hash",
    "names",
    "preprocessing",
    "present",
    "sample_rate",
    "spec",
    "stand_in",
    "steps_per_epoch",
    "train_examples",
    "unpacked",
]

AUTO = "auto"  # stands for DEFAULT, or for what stands in for it
DEFAULT = "mnist"


def names() -> tuple[str, ...]:
    """The built-in datasets, in alphabetical order."""
    return plugins.names("datasets")


def spec(dataset: str) -> DatasetSpec:
    """The dataset's spec.

    Args:
        dataset: A built-in name, or that of a user's dataset that this process knows.

    Raises:
        BadInput: There is no such dataset.
    """
    if user_code.is_reference(dataset):
        return user_data.known(dataset).spec
    found: DatasetSpec = plugins.spec("datasets", dataset)
    return found


def data_hash(dataset: str) -> str | None:
    """Of a user's dataset, that of its tensors; None of a built-in one."""
    return user_data.known(dataset).hash if user_code.is_reference(dataset) else None


def preprocessing(dataset: str) -> str | None:
    """A sentence on constants that normalise inputs, for a guarantee; None where there are none.

    Of a user's dataset, known to this process or not, nobody says whether there are any.
    """
    if dataset in names():
        return spec(dataset).preprocessing
    return (
        f"Constants that {dataset} computes from the training examples, such as a mean to "
        "normalise by, are not covered by the guarantee."
    )


def stand_in(dataset: str) -> str | None:
    """The dataset that replaces this one where its files cannot be had; None if none does."""
    return next((name for name in names() if spec(name).stands_in_for == dataset), None)


def present(dataset: str, data_root: Path) -> bool:
    """Whether the dataset's files, unpacked or as archives, lie where torchvision looks for them.

    Raises:
        BadInput: There is no such dataset.
    """
    return spec(dataset).source.present(data_root)


def unpacked(dataset: str, data_root: Path) -> bool:
    """Whether several processes can read the dataset at once, without unpacking files."""
    return spec(dataset).source.unpacked(data_root)


def train_examples(dataset: str, validation_examples: int = 0) -> int:
    """N: the size of the training set without the examples held out for validation.

    Raises:
        BadInput: Nothing would be left to train on.
    """
    every = spec(dataset).train_examples
    if validation_examples >= every:
        raise BadInput(
            f"Expected validation_examples={validation_examples} < {every:,}, the size of the "
            f"training set of {dataset}; 10% holds out a tenth of any."
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
