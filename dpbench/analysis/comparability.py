"""Which trials compare: of one dataset, held-out set, delta and engine."""

import pandas as pd

from dpbench import engines
from dpbench.analysis.trial_rows import ARM, ok


def of_most(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows with the commonest value of the column, and those that have none.

    Of values that are equally common: the largest.
    """
    counts = rows[name].value_counts()
    if counts.empty:
        return rows
    most = counts.index[counts == counts.max()].max()
    return rows[rows[name].isna() | (rows[name] == most)]


def alike(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials whose accuracies and epsilons compare: of one dataset, held-out set and delta.

    Each is that of the most trials that have finished an epoch, or of all where none has. Of an arm
    whose trials draw their noise in different ways (`Epoch.noise_derivation`), those that draw it
    in the way of the most seeds.
    """
    return of_one_derivation(of_one_guarantee(trials))


def of_one_derivation(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows; of an arm whose trials draw their noise in several ways, those of one way."""
    derivation = rows["noise_derivation"].fillna("seed")
    arm = [rows[name] for name in ARM]
    ended = rows["status"] == "ok"  # what failed does not say how it drew
    count = rows["seed"].where(ended).groupby([*arm, derivation], dropna=False).transform("nunique")
    rank = (count + 0.5 * (derivation != "seed")).where(ended)  # of as many, those of today
    return rows[~ended | (rank == rank.groupby(arm, dropna=False).transform("max"))]


def of_one_guarantee(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of one dataset, held-out set and delta: those of the most trials."""
    heads = trials.drop_duplicates(["trial_id", "status"])
    heads = ok(heads) if len(ok(heads)) else heads
    heads = heads.assign(validation_examples=heads["validation_examples"].fillna(0))
    for name in ("dataset", "validation_examples", "delta"):
        heads = of_most(heads, name)
    held_out = trials["validation_examples"].fillna(0)
    return trials[
        trials["dataset"].isin(heads["dataset"])
        & held_out.isin(heads["validation_examples"])
        & (trials["delta"].isna() | trials["delta"].isin(heads["delta"]))
    ]


def comparable(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that answers and figures are of: those that are alike, with two exceptions.

    A setting that several engines have trained is that of the engine with the most seeds. Where
    settings have several seeds, those with one are left out: a lucky seed beats no interval.
    """
    if trials.empty:
        return trials
    rows = alike(trials)
    clips = rows["noise_multiplier"].notna()
    known = {name: index for index, name in enumerate(engines.names())}
    order = rows["engine"].map(known).fillna(len(known))
    rank = order - len(known) * _seeds(rows)
    setting = [rows[name] for name in ARM if name != "engine"]
    rows = rows[~clips | (rank == rank.groupby(setting, dropna=False).transform("min"))]
    seeds = _seeds(rows)
    several = seeds.groupby(clips).transform("max") > 1
    return rows[~several | (seeds > 1)]


def _seeds(rows: pd.DataFrame) -> "pd.Series[int]":
    """Of each row, how many seeds of its arm have finished an epoch."""
    seeds = rows["seed"].where(rows["status"] == "ok")
    return seeds.groupby([rows[name] for name in ARM], dropna=False).transform("nunique")
