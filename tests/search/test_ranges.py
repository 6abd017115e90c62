from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbench import Range
from dpbench.errors import BadInput
from dpbench.search import ranges


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.1:16", Range(0.1, 16)),
        ("log:1e-3:1", Range(1e-3, 1, log=True)),
        ({"low": 0.1, "high": 16, "log": True}, Range(0.1, 16, log=True)),
        (Range(1, 2), Range(1, 2)),
        ("1:2:0.5", None),  # values
        ("log:1:2:3", None),
        ("mine.py:make", None),
        (0.5, None),
    ],
)
def test_what_is_a_range(value: Any, expected: Range | None) -> None:
    assert ranges.parsed("learning_rate", value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("16:0.1", "In learning_rate: Expected a range with low=16 < high=0.1."),
        ("1:1", "Expected a range with low=1 < high=1."),
        ("log:0:1", "Expected a logarithmic range with low=0 > 0."),
        ({"low": 1}, "Expected a range like .*: no low or no high."),
        ({"low": 1, "high": 2, "base": 10}, "unknown 'base'"),
        ({"low": "1", "high": 2}, "low='1' of a range to be a finite number"),
        ({"low": 1, "high": float("inf")}, "high=inf of a range to be a finite number"),
        ({"low": 1, "high": 2, "log": 1}, "log=1 of a range to be true or false"),
    ],
)
def test_a_bad_range_is_named(value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ranges.parsed("learning_rate", value)


@given(
    st.one_of(
        st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)),
        st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)),
    ).filter(lambda ends: ends[0] != ends[1]),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
)
def test_a_range_rises_and_is_never_left(
    ends: tuple[float, float], log: bool, one: float, other: float
) -> None:
    drawn = Range(min(ends), max(ends), log=log)
    low, high = (drawn.at(position) for position in sorted((one, other)))
    assert drawn.low <= low <= high <= drawn.high
    assert isinstance(low, int) == isinstance(ends[0], int)


def test_numbers_have_three_digits_and_whole_ones_are_equally_likely() -> None:
    assert Range(0.1, 16.0, log=True).at(0.5) == 1.26
    assert [Range(1, 4).at(position / 8) for position in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert Range(0.1, 16.0, log=True).at(0) == 0.1
