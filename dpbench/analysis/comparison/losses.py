"""Two stores' test losses, of trials whose targets are no classes: they have no accuracy."""

import numpy as np
import pandas as pd
from scipy import special

from dpbench.analysis import trial_rows
from dpbench.analysis.comparison.holm import holm
from dpbench.analysis.statistics import CONFIDENCE
from dpbench.analysis.trial_rows import ARM

TOLERANCE = 0.01  # of the loss before: losses have units of their own
COLLAPSE = 2.5  # times the loss before, of however many seeds

_TRIAL = [*ARM, "seed"]
COLUMNS = ["seeds", "test_loss_before", "test_loss_after", "rise", "low", "high", "regression"]


def scored_by_loss(trials: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows have a loss of the user's in place of an accuracy."""
    own = trials["loss"].notna() & trials["test_accuracy"].isna()
    return own & np.isfinite(trials["test_loss"].astype(float))


def loss(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per arm that has test losses, and no accuracies, of the same seeds on both sides.

    Columns: those of the arm; `seeds`; the means `test_loss_before` and `test_loss_after`; the mean
    `rise` over the size of the loss before, paired by seed, with its t interval `low` to `high`,
    NaN for one seed; `regression`.
    """
    sides = []
    for side in (before, after):
        last = trial_rows.final(side)
        sides.append(last.loc[scored_by_loss(last), [*_TRIAL, "test_loss"]])
    paired = sides[0].merge(sides[1], on=_TRIAL, suffixes=("_before", "_after"))
    if paired.empty:
        return pd.DataFrame(columns=[*ARM, *COLUMNS]).astype({"regression": bool})
    old, new = paired["test_loss_before"], paired["test_loss_after"]
    paired["rise"] = (new - old) / old.abs().clip(lower=1e-12)
    frame = (
        paired.groupby(ARM, dropna=False, sort=False)
        .agg(
            seeds=("seed", "size"),
            test_loss_before=("test_loss_before", "mean"),
            test_loss_after=("test_loss_after", "mean"),
            rise=("rise", "mean"),
            spread=("rise", "std"),
        )
        .reset_index()
    )
    n = frame["seeds"]
    error = frame.pop("spread").clip(lower=1e-12) / n**0.5  # NaN for one seed
    half = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error
    p_values = special.stdtr(n - 1, (TOLERANCE - frame["rise"]) / error)
    risen = holm(p_values, [])
    return frame.assign(
        low=frame["rise"] - half,
        high=frame["rise"] + half,
        regression=risen | (frame["rise"] > COLLAPSE - 1),
    )
