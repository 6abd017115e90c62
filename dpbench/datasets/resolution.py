"""Where dataset files are, and which dataset `auto` is."""

import os
from pathlib import Path

from dpbench import console
from dpbench.datasets import catalogue
from dpbench.errors import BadInput


def data_root(folder: Path | None) -> Path:
    """The folder if one is given, else DPBENCH_DATA, else a folder in the user's cache."""
    if folder is not None:
        return folder
    if named := os.environ.get("DPBENCH_DATA"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpbench"


def dataset(name: str, data_root: Path, *, dry_run: bool = False) -> str:
    """The dataset's name; `auto` is MNIST, or the embedded digits where MNIST cannot be had.

    The fallback is announced on stderr.

    Args:
        name: A dataset, or `auto`.
        data_root: Where its files are.
        dry_run: Do not download anything; `auto` is then MNIST.

    Raises:
        BadInput: There is no such dataset.
    """
    if name != catalogue.AUTO:
        catalogue.entry(name)
        return name
    if catalogue.present("mnist", data_root):
        return "mnist"
    if dry_run:
        console.say(
            f"MNIST is not under {data_root}: a run would ask a mirror for it, and fall back to "
            f"{catalogue.FALLBACK} (--dataset {catalogue.FALLBACK} shows that plan)."
        )
        return "mnist"
    from dpbench.datasets import loading

    try:
        loading.load("mnist", data_root, "cpu")
    except BadInput:
        size = catalogue.entry(catalogue.FALLBACK).train_examples
        console.say(
            f"MNIST is not under {data_root} and no mirror answers: running on the embedded "
            f"{catalogue.FALLBACK} ({size:,} training images) instead; for MNIST give --data-root."
        )
        return catalogue.FALLBACK
    return "mnist"
