import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpbench import number_lists
from dpbench.errors import BadInput


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("64", int, [64]),
        ("64,128", int, [64, 128]),
        ("1e3", int, [1000]),
        ("0.5:2:0.5", float, [0.5, 1.0, 1.5, 2.0]),
        ("0.1:0.3:0.1", float, [0.1, 0.2, 0.3]),  # as typed, and not as 0.1 + 0.2 adds up
        ("0:1:0.4", float, [0.0, 0.4, 0.8]),
        ("3:1:-1", int, [3, 2, 1]),
        ("log:0.1:10:5", float, [0.1, 0.3162, 1.0, 3.162, 10.0]),
        ("log:64:1024:5", int, [64, 128, 256, 512, 1024]),
        ("1,2:4:1,8", int, [1, 2, 3, 4, 8]),
    ],
)
def test_numbers_as_they_are_typed(
    text: str, kind: type[int] | type[float], expected: list[float]
) -> None:
    found = number_lists.parsed("x", text, kind)
    assert found == expected
    assert {type(each) for each in found} == {kind}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ten", "x='ten' to be a whole number"),
        ("1.5", "x='1.5' to be a whole number"),
        ("1,,2", "x='' to be a whole number"),
        ("1:2", "FIRST:LAST:STEP or log:FIRST:LAST:COUNT"),
        ("1:2:3:4", "FIRST:LAST:STEP"),
        ("log:1:2", "FIRST:LAST:STEP"),
        ("1:9:0", "to lead from FIRST to LAST in at most 1,000 steps"),
        ("1:9:-1", "to lead from FIRST to LAST"),
        ("0:1e9:1", "at most 1,000 steps"),
        ("log:0:10:3", "ends above 0"),
        ("log:1:10:1", "count from 2 to 1,000"),
        ("log:1:nan:3", "to be numbers"),
        ("nan:1:1", "to be numbers|to lead"),
    ],
)
def test_what_is_no_number_is_named(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        number_lists.parsed("x", text, int)


@given(
    first=st.floats(1e-6, 1e6),
    ratio=st.floats(1.01, 1e3),
    count=st.integers(min_value=2, max_value=50),
)
def test_a_logarithmic_range_rises_from_its_first_to_its_last(
    first: float, ratio: float, count: int
) -> None:
    last = first * ratio
    found = number_lists.parsed("x", f"log:{first!r}:{last!r}:{count}", float)
    assert (found[0], found[-1], len(found)) == (first, last, count)
    expected = [first * ratio ** (index / (count - 1)) for index in range(count)]
    assert all(math.isclose(*pair, rel_tol=1e-3) for pair in zip(found, expected, strict=True))
