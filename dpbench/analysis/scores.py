"""The metric that arms are chosen by: accuracy, or another that rows have."""

import json
from collections.abc import Sequence
from typing import TypeVar

import pandas as pd

from dpbench import plugins
from dpbench.analysis import metrics
from dpbench.errors import BadInput

PARTS = ("test", "validation")

Score = TypeVar("Score", float, "pd.Series[float]")


def scored(trials: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """The rows with what arms are chosen by.

    Columns that are added: `metric`, its name; `test_score` and `validation_score`, of which the
    highest is the best: the metric, or its negative where lower is better.

    Args:
        trials: Rows of `store.read_trials`.
        metric: One of `names`, or NAME:lowest of a user's. None for accuracy or, where targets are
            no classes, the loss.

    Raises:
        BadInput: No row has the metric.
    """
    if metric is None:
        classes = trials["test_accuracy"].notna().any() or trials["test_loss"].isna().all()
        metric = "accuracy" if classes else "loss"
    elif (name := metrics.named(metrics.checked(metric))) not in names(trials):
        raise BadInput(f"No trial has the metric {name!r}: {plugins.nearest(name, names(trials))}")
    scores = {f"{part}_score": value(metric, _values(trials, part, metric)) for part in PARTS}
    return trials.assign(metric=metric, **scores)


def value(metric: str, score: Score) -> Score:
    """The metric of a score, and the score of a metric."""
    return -score if metrics.lower_is_better(metric) else score


def names(trials: pd.DataFrame) -> Sequence[str]:
    """The metrics that the rows have, the users' last."""
    there = [name for name in metrics.BUILT_IN if trials[f"test_{name}"].notna().any()]
    own = {name for text in trials["test_metrics"].dropna().unique() for name in json.loads(text)}
    return [*there, *sorted(own)]


def _values(trials: pd.DataFrame, part: str, metric: str) -> "pd.Series[float]":
    metric = metrics.named(metric)
    if metric in metrics.BUILT_IN:
        return trials[f"{part}_{metric}"].astype(float)
    column = trials[f"{part}_metrics"]
    values = [None if pd.isna(text) else json.loads(text).get(metric) for text in column]
    return pd.Series(values, index=trials.index, dtype=float)
