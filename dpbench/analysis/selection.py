"""Arms of a store by their settings, not by their ids."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dpbench import plugins
from dpbench.analysis import comparability, trial_rows

_AS_SHOWN = 5e-4  # relative: numbers are typed as tables show them, with four digits


def matching(trials: pd.DataFrame, settings: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """The rows of the trials that have, for each setting, one of its values.

    Numbers are equal to four digits, names without regard to case, `-` and `_`.

    Args:
        trials: Rows of `store.read_trials`.
        settings: Columns and values; all must hold.
    """
    for name, values in settings.items():
        trials = trials[[any(_equal(there, value) for value in values) for there in trials[name]]]
    return trials


def _equal(there: Any, value: Any) -> bool:
    if pd.isna(there):
        return False
    if isinstance(value, str):
        return plugins.known_name(value, [str(there)]) == str(there)
    return math.isclose(float(there), float(value), rel_tol=_AS_SHOWN)


def arms(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, in the order of its settings: how its trials ended, and their last epochs.

    Columns: those of the arm, `trials`, `finished` and `failed` (numbers of them), `seeds` (a
    list), `epsilon` (the largest) and `test_accuracy` (the mean) of those that finished. Where
    they draw their noise in several ways, the mean is of one, see `comparability.alike`.
    """
    last = trials.sort_values("epoch", kind="stable").groupby("trial_id").tail(1)
    ended = (last["status"] == "ok") & (last["epoch"] == last["epochs"])
    alike = comparability.of_one_derivation(last)
    last = last.assign(
        finished=ended,
        failed=last["status"] != "ok",
        epsilon=last["epsilon"].where(ended),
        test_accuracy=last["test_accuracy"].where(ended & last.index.isin(alike.index)),
    )
    return (
        last.groupby(trial_rows.ARM, dropna=False, sort=True)
        .agg(
            trials=("trial_id", "nunique"),
            finished=("finished", "sum"),
            failed=("failed", "sum"),
            seeds=("seed", lambda seeds: sorted(set(seeds))),
            epsilon=("epsilon", "max"),
            test_accuracy=("test_accuracy", "mean"),
        )
        .reset_index()
    )
