from dpbench.privacy.run_count import RunCount
from dpbench.search import private_draw


def test_a_draw_is_of_fresh_settings_and_seeds() -> None:
    count = RunCount(distribution="poisson", mean=50)
    one, other = (private_draw.draw(count, 3) for _ in range(2))
    assert len(one.points) == len(one.seeds) == len(one.score_draws) > 10
    assert {len(point) for point in one.points} == {3}
    assert all(0 <= each < 1 for point in one.points for each in point)
    seeds = [*one.seeds, *other.seeds]
    assert len(set(seeds)) == len(seeds)
    assert not {*one.points} & {*other.points}
    assert max(seeds) < 2**53 == int(float(2**53))  # JSON readers keep its digits


def test_a_poisson_draw_may_be_empty() -> None:
    count = RunCount(distribution="poisson", mean=1)
    assert 0 in {len(private_draw.draw(count, 0).points) for _ in range(200)}
