"""Arms over their seeds: mean accuracies with intervals, and what clipping and noise lose."""

import pandas as pd

from dpbench.analysis import scores
from dpbench.analysis.statistics import half_width
from dpbench.analysis.trial_rows import ARM, ok


def over_seeds(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and epoch: the mean test accuracy over seeds with its interval.

    Trials of an arm that draw their noise in different ways are not averaged: each way has a row.

    Columns: those of the arm, `epoch`, `steps`, `sample_rate`, `epsilon`, `epsilon_if_poisson`,
    `accountant`, `seeds` (their number), `metric`, `validation_score` and `test_score` (means, see
    `scores.scored`, which is called here where it was not before), `validation_accuracy` and
    `test_accuracy` (means), `low` and `high`, the 95 % Student t interval of the latter, and
    `least` and `most`, its range. The interval is NaN for one seed, of which there is none, and
    where it is wider than MOST_WIDTH.
    """
    rows = trials if "metric" in trials else scores.scored(trials)
    rows = ok(rows).assign(derivation=lambda seen: seen["noise_derivation"].fillna("seed"))
    grouped = rows.groupby([*ARM, "derivation", "epoch"], dropna=False, sort=False)
    frame = grouped.agg(
        steps=("steps", "first"),
        sample_rate=("sample_rate", "first"),
        epsilon=("epsilon", "max"),
        epsilon_if_poisson=("epsilon_if_poisson", "max"),
        accountant=("accountant", "first"),
        seeds=("test_accuracy", "size"),
        metric=("metric", "first"),
        validation_score=("validation_score", "mean"),
        test_score=("test_score", "mean"),
        validation_accuracy=("validation_accuracy", "mean"),
        test_accuracy=("test_accuracy", "mean"),
        deviation=("test_accuracy", "std"),
        least=("test_accuracy", "min"),
        most=("test_accuracy", "max"),
    ).reset_index()
    half = [
        half_width(deviation, n)
        for n, deviation in zip(frame["seeds"], frame["deviation"], strict=True)
    ]
    return frame.assign(low=frame["test_accuracy"] - half, high=frame["test_accuracy"] + half).drop(
        columns=["deviation", "derivation"]
    )
