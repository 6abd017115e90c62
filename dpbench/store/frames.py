"""A store as pandas frames."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dpbench import store
from dpbench.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd


class StoreFrames(NamedTuple):
    """A store's rows.

    Attributes:
        trials: A row per trial and epoch, with the columns of `Trial`, `Epoch` and `Environment`.
        timings: A row per pair of timed blocks, with the columns of `StepTiming` and `Environment`.
    """

    trials: "pd.DataFrame"
    timings: "pd.DataFrame"


def load_store(path: str | Path) -> StoreFrames:
    """The store's rows, those of older versions with today's columns. Nothing is written.

        trials, timings = dpbench.load_store("results/mnist-quick")

    Raises:
        BadInput: There is no such folder, or it cannot be read.
    """
    root = Path(path)
    if not os.path.isdir(root):  # noqa: PTH112  # pathlib's raises where a name is too long
        raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
    return StoreFrames(trials=store.read_trials(root), timings=store.read_timings(root))
