"""Reads a dataset by torchvision, which downloads and unpacks its files where they are not."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock


def read(name: str, data_root: Path) -> tuple[Any, Any]:
    """Torchvision's training set and test set.

    Args:
        name: Of a class of `torchvision.datasets`.
        data_root: torchvision's root.
    """
    from torchvision import datasets

    dataset = getattr(datasets, name)
    with _locked(data_root):  # another process may be unpacking the files
        return (
            dataset(data_root, train=True, download=True),
            dataset(data_root, train=False, download=True),
        )


def _locked(folder: Path) -> AbstractContextManager[object]:
    """A lock on the folder; none where the folder cannot be written: then nobody changes it."""
    if folder.exists() and not os.access(folder, os.W_OK):
        return nullcontext()
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".dpbench-unpacking")
