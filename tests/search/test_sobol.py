from itertools import pairwise

import pytest

from dpbench.search import sobol

GOLDEN = [
    [0.2926995437592268, 0.3327110856771469, 0.5533428676426411],
    [0.7926995437592268, 0.8327110856771469, 0.05334286764264107],
    [0.5426995437592268, 0.08271108567714691, 0.8033428676426411],
]


def test_the_points_are_the_same_wherever_they_are_computed() -> None:
    """A store is resumed by them: no release of scipy may change them."""
    assert sobol.points(3, 3) == GOLDEN


@pytest.mark.parametrize("count", [1, 2, 5, 20, 64])
def test_the_first_of_more_points_are_these(count: int) -> None:
    assert sobol.points(4, 2 * count)[:count] == sobol.points(4, count)


def test_a_power_of_two_of_points_has_one_in_each_interval_of_every_dimension() -> None:
    drawn = sobol.points(7, 64)
    for values in zip(*drawn, strict=True):
        assert sorted(int(value * 64) for value in values) == list(range(64))
    assert all(0 < value < 1 for point in drawn for value in point)  # no corner of the cube


def test_no_two_dimensions_are_alike() -> None:
    assert all(one != other for one, other in pairwise(zip(*sobol.points(9, 32), strict=True)))
