"""Rows of trials by their status, epoch and privacy."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from dpbench.trial import NON_PRIVATE, SAMPLINGS, Trial

if TYPE_CHECKING:  # a sweep plans without pandas
    import pandas as pd

ARM = [field.name for field in fields(Trial) if field.name != "seed"]


def ok(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The rows that hold a measurement."""
    return trials[trials["status"] == "ok"]


def final(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The last epoch of every trial that finished."""
    rows = ok(trials)
    return rows[rows["epoch"] == rows["epochs"]]


def failures(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The rows that say why a trial failed."""
    return trials[trials["status"] != "ok"]


def private(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of engines that clip, those without noise included."""
    return trials[trials["noise_multiplier"].notna()]


def non_private(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the baseline."""
    return trials[trials["engine"] == NON_PRIVATE]


def unclipped(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of every engine that trains without privacy: the baseline and its twin."""
    return trials[trials["noise_multiplier"].isna()]


def repeats(trials: "pd.DataFrame") -> "pd.Series[bool]":
    """Of each row, whether a longer trial takes all steps of its trial again, and goes on.

    Noise that is drawn from `Trial.noise_seed` does not depend on the epochs: on one kind of device
    the longer trial passes through the same weights, so that both are one mechanism.
    """
    by_trial = trials.groupby("trial_id", sort=False)
    heads = trials.assign(
        kind=trials["device"].str.partition(":")[0],
        derived=(trials["noise_derivation"] == "trial")
        .groupby(trials["trial_id"])
        .transform("any"),
        reach=by_trial["epoch"].transform("max"),
    ).drop_duplicates("trial_id")
    heads = heads[heads["derived"]].sort_values("epochs", ascending=False, kind="stable")
    same = [*(name for name in ARM if name != "epochs"), "seed", "kind"]
    longer = heads.assign(reach=heads.groupby(same, dropna=False)["reach"].cummax())
    longer["reach"] = longer.groupby(same, dropna=False)["reach"].shift()
    repeated = heads[longer["reach"] >= heads["reach"]]["trial_id"]
    return trials["trial_id"].isin(set(repeated))


def samplings(trials: "pd.DataFrame") -> list[str]:
    """How the private trials drew batches: each has neighbours, and so an epsilon, of its own."""
    there = set(private(trials)["sampling"])
    return [name for name in SAMPLINGS if name in there]


def where(rows: "pd.DataFrame", values: Mapping[str, Any]) -> "pd.DataFrame":
    """The rows that have these values; a null equals a null."""
    import pandas as pd

    for name, value in values.items():
        rows = rows[rows[name].isna() if pd.isna(value) else rows[name] == value]
    return rows
