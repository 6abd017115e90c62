"""Which arm is chosen, by which trials, and by which others its accuracy is confirmed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from dpbench.analysis import arm_means, comparability, frontier, trial_rows
from dpbench.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An arm at the epoch that is answered with, and the rows that chose it.

    Attributes:
        arm: Row of `arm_means.over_seeds`.
        rows: Of its epoch, a row a seed, of the trials that it was chosen by.
        arms: It was chosen among.
    """

    arm: "pd.Series[Any]"
    rows: pd.DataFrame
    arms: pd.DataFrame


def baseline(trials: pd.DataFrame) -> Chosen | None:
    """The best non-private arm at its last epoch; None where there is none."""
    arms = arm_means.over_seeds(trial_rows.unclipped(trial_rows.final(trials)))
    return None if arms.empty else _chosen(trials, arms)


def within(trials: pd.DataFrame, epsilon: float, sampling: str) -> Chosen | None:
    """The best private arm within the epsilon; None where none stays within it."""
    arms = frontier.within(trials[trials["sampling"] == sampling], epsilon)
    return None if arms.empty else _chosen(trials, arms)


def _chosen(trials: pd.DataFrame, arms: pd.DataFrame) -> Chosen:
    best = frontier.best(arms)
    return Chosen(arm=best, rows=rows_of(trials, best), arms=arms)


def confirmed(
    confirmations: pd.DataFrame | None, found: Chosen
) -> tuple[pd.DataFrame, "pd.Series[Any]", tuple[int, ...]]:
    """Of the chosen arm: its rows, a row a seed; their summary; and the fresh seeds.

    Of the trials that confirm it or, where there are none, of those that it was chosen by.
    """
    if confirmations is None or confirmations.empty:
        return found.rows, found.arm, ()
    rows = rows_of(confirmations, found.arm)
    fresh = rows[~rows["seed"].isin(found.rows["seed"])]
    if fresh.empty:
        return found.rows, found.arm, ()
    seeds = tuple(sorted(int(seed) for seed in fresh["seed"]))
    return fresh, arm_means.over_seeds(fresh).iloc[0], seeds


def rows_of(trials: pd.DataFrame, arm: "pd.Series[Any]") -> pd.DataFrame:
    """The arm's rows at its epoch, one a seed."""
    return trial_rows.where(
        trial_rows.ok(trials), {name: arm[name] for name in (*trial_rows.ARM, "epoch")}
    )


def again(
    trials: Sequence[Trial], rows: pd.DataFrame, epsilons: Sequence[float], seeds: Sequence[int]
) -> list[Trial]:
    """The best setting within each epsilon, and the best non-private one, on these seeds.

    Args:
        trials: A grid; the choice is by these alone.
        rows: Of trials, the grid's among them.
        epsilons: That are answered for.
        seeds: That none of the grid's trials has.
    """
    settings = dict.fromkeys(
        replace(trial, seed=seeds[0]) for trial in best(trials, rows, epsilons)
    )
    return [replace(setting, seed=seed) for setting in settings for seed in seeds]


def best(trials: Sequence[Trial], rows: pd.DataFrame, epsilons: Sequence[float]) -> list[Trial]:
    """A trial of the best setting within each epsilon, and of the best non-private one, first.

    Args:
        trials: As of `again`; so the following, too.
        rows: Of trials.
        epsilons: That are answered for.
    """
    by_id = {trial.trial_id: trial for trial in trials}
    main = comparability.comparable(rows[rows["trial_id"].isin(by_id)])
    chosen = [baseline(main)]
    chosen += [
        within(main, epsilon, sampling)
        for sampling in trial_rows.samplings(main)
        for epsilon in epsilons
    ]
    ids = [str(found.rows["trial_id"].iloc[0]) for found in chosen if found is not None]
    return [by_id[each] for each in dict.fromkeys(ids)]
