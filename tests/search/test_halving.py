import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbench.search import halving


@pytest.mark.parametrize(
    ("epochs", "eta", "expected"),
    [
        (60, 4, [3, 15, 60]),
        (20, 4, [1, 5, 20]),
        (10, 4, [1, 2, 10]),
        (5, 4, [1, 5]),  # a rung that is as long as the one before tells nothing
        (1, 4, [1]),
        (18, 3, [2, 6, 18]),
    ],
)
def test_the_epochs_of_the_rungs(epochs: int, eta: int, expected: list[int]) -> None:
    rungs = halving.rungs(epochs, eta)
    assert [halving.rung_epochs(epochs, eta, rung, rungs) for rung in range(rungs)] == expected


@given(st.integers(1, 500), st.integers(2, 8))
def test_rungs_rise_to_all_epochs(epochs: int, eta: int) -> None:
    rungs = halving.rungs(epochs, eta)
    found = [halving.rung_epochs(epochs, eta, rung, rungs) for rung in range(rungs)]
    assert all(one < other for one, other in pairwise(found))
    assert found[-1] == epochs


def test_the_best_of_each_group_go_on_and_failures_do_not() -> None:
    groups = ["a", "b"] * 5
    scores = [0.1, 0.9, 0.5, 0.8, 0.5, math.nan, 0.2, math.nan, 0.3, 0.7]
    assert halving.promoted(scores, groups, 4) == [1, 2, 3, 4]  # 2 of 5 each
    assert halving.promoted([math.nan, math.nan, 0.1], "aaa", 2) == [2]
    assert halving.promoted([math.nan] * 3, "aaa", 2) == []
    assert halving.promoted([0.5] * 8, "a" * 8, 4) == [0, 1]  # of equals the first
