"""Where dataset files are, and which dataset `auto` is."""

import os
from collections.abc import Callable
from pathlib import Path

from dpbench import console, datasets, plugins, user_code
from dpbench.datasets import user_data
from dpbench.datasets.data import Data
from dpbench.errors import BadInput


def data_root(folder: Path | None) -> Path:
    """The folder if one is given, else DPBENCH_DATA, else a folder in the user's cache."""
    if folder is not None:
        return folder
    if named := os.environ.get("DPBENCH_DATA"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpbench"


def dataset(
    name: str | Callable[[Path], Data] | Data,
    data_root: Path,
    *,
    dry_run: bool = False,
    folder: Path | None = None,
) -> str:
    """The dataset's name; `auto` is the default one, or its stand-in where it cannot be had.

    A user's dataset is loaded and checked.

    The fallback is announced on stderr.

    Args:
        name: A dataset, in any case and with or without dashes, `auto`, or a function of the
            user's, or its name; or the data.
        data_root: Where its files are.
        dry_run: Do not download anything; `auto` is then the default one.
        folder: That the path of a user's function starts from; None for the current one.

    Raises:
        BadInput: There is no such dataset.
    """
    if isinstance(name, Data):
        from dpbench.datasets import given_data  # torch

        name = given_data.written(name, data_root)
    name = user_code.named(name)
    if user_code.is_reference(name):
        return user_data.introduce(name, data_root, folder).code.name
    name = plugins.known_name(name, [datasets.AUTO, *datasets.names()])
    if name != datasets.AUTO:
        datasets.spec(name)
        return name
    first, fallback = datasets.DEFAULT, datasets.stand_in(datasets.DEFAULT)
    if datasets.present(first, data_root) or fallback is None:
        return first
    title = datasets.spec(first).title
    if dry_run:
        console.say(
            f"{title} is not under {data_root}: a run would ask a mirror for it, and fall back to "
            f"{fallback} (--dataset {fallback} shows that plan)."
        )
        return first
    from dpbench.datasets import loading

    try:
        loading.load(first, data_root, "cpu")
    except BadInput:
        size = datasets.spec(fallback).train_examples
        console.say(
            f"{title} is not under {data_root} and no mirror answers: running on the embedded "
            f"{fallback} ({size:,} training images) instead; for {title} give --data-root."
        )
        return fallback
    return first
