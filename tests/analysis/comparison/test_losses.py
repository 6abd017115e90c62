"""Stores of trials with a loss of the user's, and no accuracy."""

import math

import pandas as pd
import pytest
from factories import arm

from dpbench.analysis.comparison import differences, losses


def of_losses(values: list[float]) -> pd.DataFrame:
    return arm([math.nan] * len(values)).assign(loss="mine.py:loss", test_loss=values)


@pytest.mark.parametrize(
    ("after", "worse"),
    {
        "the same": ([2.0, 2.1, 1.9], False),
        "noise": ([2.1, 1.95, 1.9], False),
        "within the tolerance": ([2.01, 2.11, 1.91], False),
        "a fall": ([1.0, 1.1, 0.9], False),
        "a rise": ([2.2, 2.31, 2.09], True),
    }.values(),
)
def test_a_regression_is_a_rise_beyond_tolerance_and_noise(after: list[float], worse: bool) -> None:
    sides = of_losses([2.0, 2.1, 1.9]), of_losses(after)
    (row,) = losses.loss(*sides).to_dict("records")
    assert row["regression"] is worse
    assert row["seeds"] == 3
    ended = differences.trials(*sides)
    assert set(ended["status_before"]) == {"ok"}
    assert not ended["regression"].any()
    assert differences.accuracy(*sides).empty


def test_one_seed_fails_by_a_multiple_only() -> None:
    for after, worse in ((2.4, False), (6.0, True)):
        (row,) = losses.loss(of_losses([2.0]), of_losses([after])).to_dict("records")
        assert row["regression"] is worse
        assert math.isnan(row["low"])


def test_accuracies_and_infinite_losses_are_left_out() -> None:
    accurate = arm([0.9])
    assert losses.loss(accurate, accurate).empty
    lost = of_losses([math.inf])
    assert losses.loss(of_losses([2.0]), lost).empty
    assert differences.trials(of_losses([2.0]), lost)["regression"].all()
