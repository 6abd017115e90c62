"""Datasets as tensors in memory."""

import os
import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor

from dpbench.datasets import catalogue
from dpbench.datasets.catalogue import MEAN, STD
from dpbench.errors import BadInput

CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Dataset:
    """Images and labels in memory, on one device.

    Attributes:
        name: A name from `catalogue.DATASETS`.
        train_images: Grey levels, uint8 [N, 1, 28, 28].
        train_labels: Classes 0 to 9, int64 [N].
        validation_images: Held out of the training set for choosing, [V, 1, 28, 28]; V may be 0.
        validation_labels: As train_labels, [V].
        test_images: As train_images, [M, 1, 28, 28].
        test_labels: As train_labels, [M].
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@cache
def load(name: str, data_root: Path, device: str, validation_examples: int = 0) -> Dataset:
    """The dataset on the device; read once per process.

    Files that are not in `data_root` are downloaded there, if a mirror answers. The examples held
    out for validation are a random choice that is the same wherever the number is.

    Raises:
        BadInput: The dataset is not there and cannot be had, or its files cannot be read.
    """
    if validation_examples:
        return _hold_out(load(name, data_root, device), validation_examples)
    embedded = catalogue.entry(name).folder is None
    parts = _digits() if embedded else _files(name, data_root)
    train_images, train_labels, test_images, test_labels = (part.to(device) for part in parts)
    return Dataset(
        name=name,
        train_images=train_images,
        train_labels=train_labels,
        validation_images=train_images[:0],
        validation_labels=train_labels[:0],
        test_images=test_images,
        test_labels=test_labels,
    )


def normalise(images: Tensor) -> Tensor:
    """Grey levels, uint8 [B, 1, 28, 28] -> float32 of about zero mean and unit variance."""
    return images.to(torch.float32).mul_(1 / (255 * STD)).sub_(MEAN / STD)


def _hold_out(dataset: Dataset, validation_examples: int) -> Dataset:
    order = np.random.default_rng(0).permutation(len(dataset.train_labels))
    held_out, kept = (
        torch.from_numpy(np.sort(part)).to(dataset.train_labels.device)
        for part in (order[:validation_examples], order[validation_examples:])
    )
    return replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=dataset.train_labels[kept],
        validation_images=dataset.train_images[held_out],
        validation_labels=dataset.train_labels[held_out],
    )


def _files(name: str, data_root: Path) -> tuple[Tensor, ...]:
    """Images and labels of the training set, and of the test set."""
    try:
        found = (
            _read(name, data_root)  # as torchvision would, whose import takes each worker a second
            if catalogue.unpacked(name, data_root)
            else _torchvision(name, data_root)
        )
        _refuse_unlike(name, *found)
    except (OSError, RuntimeError, EOFError, zlib.error, AssertionError, ValueError) as error:
        # the last two where there is no magic number, or not as many bytes as it says
        why = next(iter(str(error).splitlines()), f"its files hold something else ({error!r})")
        raise BadInput(
            f"Cannot load dataset={name} from {data_root}: {why.rstrip('.')}. "
            f"Put its four .gz files into {data_root / str(catalogue.entry(name).folder) / 'raw'}, "
            "or name the folder that has them with --data-root."
        ) from error
    return found


def _refuse_unlike(
    name: str, train_images: Tensor, train_labels: Tensor, test_images: Tensor, test_labels: Tensor
) -> None:
    """Raises ValueError where files do not belong together, or are not those of the dataset."""
    known = catalogue.entry(name)
    for part, images, labels, examples in (
        ("training", train_images, train_labels, known.train_examples),
        ("test", test_images, test_labels, known.test_examples),
    ):
        if len(images) != len(labels):
            raise ValueError(
                f"its {part} set has {len(images):,} images and {len(labels):,} labels"
            )
        if images.shape != (examples, 1, 28, 28):
            shape = " x ".join(map(str, images.shape[2:]))
            raise ValueError(
                f"its {part} set has {len(images):,} images of {shape} pixels, not {examples:,} of "
                "28 x 28"
            )
        if not 0 <= int(labels.min()) <= int(labels.max()) < CLASSES:
            raise ValueError(
                f"its {part} labels are {int(labels.min())} to {int(labels.max())}, not 0 to "
                f"{CLASSES - 1}"
            )


def _read(name: str, data_root: Path) -> tuple[Tensor, ...]:
    read = [_idx(path, shape) for path, shape in catalogue.files(name, data_root).items()]
    train_images, train_labels, test_images, test_labels = read
    return train_images[:, None], train_labels.long(), test_images[:, None], test_labels.long()


def _torchvision(name: str, data_root: Path) -> tuple[Tensor, ...]:
    from torchvision import datasets

    loader = {
        "mnist": datasets.MNIST,
        "fashion-mnist": datasets.FashionMNIST,
        "kmnist": datasets.KMNIST,
    }[name]
    with _alone(data_root):  # another process may be unpacking the files
        train = loader(data_root, train=True, download=True)
        test = loader(data_root, train=False, download=True)
    return train.data.unsqueeze(1), train.targets, test.data.unsqueeze(1), test.targets


def _idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The file's bytes, uint8 of that shape.

    Raises:
        ValueError: It is a file of something else.
    """
    content, header = np.fromfile(path, np.uint8), catalogue.idx_header(shape)
    if content[: len(header)].tobytes() != header:
        raise ValueError(f"{path.name} does not begin as an IDX file of bytes {list(shape)}")
    return torch.from_numpy(content[len(header) :].reshape(shape))


def _alone(folder: Path) -> AbstractContextManager[object]:
    """Holds others off the folder; nothing where it cannot be written, for nobody changes it."""
    if folder.exists() and not os.access(folder, os.W_OK):
        return nullcontext()
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".dpbench-unpacking")


def _digits() -> tuple[Tensor, ...]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)  # 8 x 8 grey levels from 0 to 16
    small = torch.from_numpy(images).float().view(-1, 1, 8, 8) * (255 / 16)
    large = F.interpolate(small, size=(28, 28), mode="bilinear").round().to(torch.uint8)
    classes = torch.from_numpy(labels).long()
    split = catalogue.entry("digits").train_examples
    return large[:split], classes[:split], large[split:], classes[split:]
