"""The best arms: within an epsilon, by each value of a column, and over all epsilons."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from dpbench.analysis.arm_means import over_seeds
from dpbench.analysis.trial_rows import ARM, private

ROUNDING = 1e-9  # by so much of itself an epsilon may exceed what it was solved for


def frontier(arms: pd.DataFrame, by: str = "epsilon") -> pd.DataFrame:
    """The rows that no other row beats in both epsilon and test accuracy, by rising epsilon.

    Args:
        arms: Rows with a column `test_accuracy`.
        by: The column of what is spent.
    """
    ordered = arms.sort_values([by, "test_accuracy"], ascending=[True, False])
    best_before = ordered["test_accuracy"].cummax().shift(fill_value=-math.inf)
    return ordered[ordered["test_accuracy"] > best_before]


def within(trials: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """Of every private arm, its last epoch that spends at most epsilon: rows of `over_seeds`.

    Args:
        trials: Of one sampling: the epsilons of others do not compare.
        epsilon: Exceeded by rounding at most.
    """
    return last_within(over_seeds(private(trials)), epsilon)


def last_within(arms: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """Of the rows of `over_seeds`, each arm's last that spends at most epsilon.

    Ordered, so that `best` prefers among equals the fewest epochs and, among trials of one setting
    that early stopping has run for longer and longer, the longest.
    """
    arms = arms[arms["epsilon"] <= epsilon * (1 + ROUNDING)]
    arms = arms.sort_values(["epoch", "epochs"], ascending=[True, False])
    return arms.groupby(ARM, dropna=False, sort=False).tail(1)


def best(arms: pd.DataFrame) -> "pd.Series[Any]":
    """The arm to choose: by validation accuracy where all have it, else by test accuracy.

    By another metric, where `scores.scored` was given one; the first where none has any.

    Args:
        arms: Rows of `within`; at least one.
    """
    scored = arms[_score(arms)]
    return arms.iloc[0] if scored.isna().all() else arms.loc[scored.idxmax()]


def best_of_each(arms: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The `best` of the arms for each value of the columns, ordered by these.

    Args:
        arms: Rows of `over_seeds`, one epoch of each.
        by: Columns.
    """
    ordered = arms.sort_values(_score(arms), kind="stable", na_position="first")
    return ordered.drop_duplicates(list(by), keep="last").sort_values(list(by), kind="stable")


def chosen_by(arms: pd.DataFrame) -> str:
    """The column by which `best` chooses, such as `validation_accuracy`; or a user's metric."""
    return f"{_part(arms)}_{arms['metric'].iloc[0]}"


def _score(arms: pd.DataFrame) -> str:
    return f"{_part(arms)}_score"


def _part(arms: pd.DataFrame) -> str:
    return "validation" if arms["validation_score"].notna().all() else "test"
