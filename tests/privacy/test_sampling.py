from collections.abc import Callable
from functools import cache
from itertools import cycle, islice

import numpy as np
import pytest
from factories import mostly_slow
from scipy import stats

from dpbench.privacy import sampling
from dpbench.trial import Sampling


def batches(steps: int, rate: float, examples: int = 1_000, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = sampling.poisson_batches(examples=examples, sample_rate=rate, rng=rng)
    return list(islice(drawn, steps))


def test_batch_sizes_follow_the_binomial() -> None:
    sizes = np.array([len(batch) for batch in batches(4_000, 0.05)])
    expected = stats.binom(1_000, 0.05)
    edges = expected.ppf([0.1, 0.25, 0.5, 0.75, 0.9])
    cells = np.searchsorted(edges, sizes)
    probabilities = np.diff([0, *expected.cdf(edges), 1])
    assert stats.chisquare(np.bincount(cells), len(sizes) * probabilities).pvalue > 0.001
    # and a sampler of fixed size would be found out
    assert sizes.std() == pytest.approx(expected.std(), rel=0.05)


def test_every_example_joins_at_the_sample_rate_and_at_most_once() -> None:
    drawn = batches(4_000, 0.05)
    assert all(len(np.unique(batch)) == len(batch) for batch in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=1_000)
    expected = 4_000 * 0.05
    # a sum of 1,000 squared deviations of binomials over their variance is about chi-square
    deviation = ((counts - expected) ** 2 / (expected * 0.95)).sum()
    assert stats.chi2(1_000).sf(deviation) > 0.001


def test_two_examples_join_independently() -> None:
    drawn = batches(20_000, 0.5, examples=4)
    together = sum(0 in batch and 1 in batch for batch in drawn)
    assert together / 20_000 == pytest.approx(0.25, abs=0.015)


def test_empty_batches_happen() -> None:
    sizes = [len(batch) for batch in batches(1_000, 0.001)]
    assert sizes.count(0) == pytest.approx(1_000 * 0.999**1_000, rel=0.2)


def test_batches_are_those_of_the_generator() -> None:
    first, again, other = batches(5, 0.1), batches(5, 0.1), batches(5, 0.1, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_shuffled_batches_hold_every_example_once_an_epoch() -> None:
    rng = np.random.default_rng(0)
    drawn = sampling.shuffled_batches(examples=1_003, steps_per_epoch=10, rng=rng)
    first, second = list(islice(drawn, 10)), list(islice(drawn, 10))
    for epoch in (first, second):
        assert sorted(np.concatenate(epoch)) == list(range(1_003))
        assert {len(batch) for batch in epoch} == {100, 101}
    assert not np.array_equal(first[0], second[0])


Draw = Callable[[np.random.Generator], np.ndarray]
Sampler = Callable[[np.random.Generator], Draw]
RATE = 0.05  # of batches of 100 out of 2,000


def each(draw: Draw) -> Sampler:
    """A sampler whose batches do not depend on those before."""
    return lambda rng: draw


def shuffled(rng: np.random.Generator) -> Draw:
    """Shuffled batches, whatever the name that they are given."""
    right = sampling.shuffled_batches(examples=2_000, steps_per_epoch=20, rng=rng)
    return lambda _: next(right)


def in_turn(rng: np.random.Generator) -> Draw:
    """Batches of 50 and of 150."""
    sizes = cycle((50, 150))
    return lambda rng: rng.choice(2_000, next(sizes), replace=False)


# (what a sampler with a fault draws of 2,000 examples for a batch of 100, what is said of it)
FAULTS: dict[str, tuple[Sampler, str]] = {
    "five per cent too many": (
        each(lambda rng: rng.choice(2_000, rng.binomial(2_000, 0.0525), replace=False)),
        "at rate 0.05",
    ),
    "with replacement": (each(lambda rng: rng.choice(2_000, 100)), "twice into one batch"),
    "half of the examples": (
        each(lambda rng: rng.choice(2_000, rng.binomial(1_000, 0.05), replace=False)),
        "at rate 0.02",
    ),
    "half of the examples at twice the rate": (
        each(lambda rng: rng.choice(1_000, rng.binomial(1_000, 0.1), replace=False)),
        "the examples too unevenly",
    ),
    "the same 100 in every step": (each(lambda rng: np.arange(100)), "the examples too unevenly"),
    "shuffled batches": (shuffled, "the examples too evenly"),
    "batches of a fixed size": (
        each(lambda rng: rng.choice(2_000, 100, replace=False)),
        "batches of sizes too alike",
    ),
    "small and large batches in turn": (in_turn, "batches of sizes too different"),
}


def tally(sampler: Sampler, steps: int) -> sampling.Tally:
    rng, counted = np.random.default_rng(0), sampling.Tally(2_000)
    draw = sampler(rng)
    for _ in range(steps):
        counted.count(draw(rng))
    return counted


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sampler_that_draws_otherwise_is_found(fault: str) -> None:
    sampler, said = FAULTS[fault]
    counted = tally(sampler, 2_000)
    assert said in counted.disagreement("poisson", steps=2_000, epochs=100, rate=RATE)


@pytest.mark.parametrize("fault", list(FAULTS)[3:])
def test_what_the_total_does_not_show_is_found_in_the_first_epoch(fault: str) -> None:
    sampler, said = FAULTS[fault]
    counted = tally(sampler, 20)
    assert counted.drawn == pytest.approx(20 * 100, rel=0.05)  # as many as asked
    assert said in counted.disagreement("poisson", steps=20, epochs=1, rate=RATE)


def test_a_right_sampler_agrees_and_a_missing_step_does_not() -> None:
    for seed in range(200):
        counted = sampling.Tally(2_000)
        for batch in batches(20, 0.05, examples=2_000, seed=seed):
            counted.count(batch)
        assert counted.disagreement("poisson", steps=20, epochs=1, rate=0.05) == ""
    said = counted.disagreement("poisson", steps=21, epochs=1, rate=0.05)
    assert said == "the sampler drew 20 batches, not 21"


GRID = [(rate, steps) for rate in (0.005, 0.05, 0.3, 0.7, 1.0) for steps in (1, 2, 22, 200)]


@pytest.mark.parametrize(("rate", "steps"), GRID)
def test_many_right_samplers_agree(rate: float, steps: int) -> None:
    for seed in range(10):
        counted = sampling.Tally(1_437)
        for batch in batches(steps, rate, examples=1_437, seed=seed):
            counted.count(batch)
        assert counted.disagreement("poisson", steps=steps, epochs=1, rate=rate) == ""


@pytest.mark.parametrize("rate", mostly_slow([0.005, 0.05, 0.5], lambda rate: rate != 0.05))
@pytest.mark.parametrize("trials", mostly_slow([1, 2, 20, 300, 1_437], lambda it: it in (2, 300)))
def test_a_dispersion_is_called_improbable_no_more_often_than_it_is(
    trials: int, rate: float
) -> None:
    """A thousand draws of a hundred counts, whose tails are far heavier than those of chi-square.

    With 1,437 examples in 10 batches at rate 0.005, the chi-square approximation puts one of 300
    right samplers at 5e-19.
    """
    rng = np.random.default_rng(0)
    tails = np.array(
        [
            sampling._dispersion_tails(counts, trials, rate)
            for counts in rng.binomial(trials, rate, (1_000, 100))
        ]
    )
    for level in (0.1, 0.01, 0.001):
        allowed = stats.binom(1_000, level).ppf(1 - 1e-6)
        assert ((tails <= level).sum(axis=0) <= allowed).all()


@cache
def dispersions(trials: int, rate: float) -> dict[float, float]:
    """The probability of each sum of (k - n q)^2 over eight counts."""
    masses = stats.binom(trials, rate).pmf(range(trials + 1))
    values = np.flatnonzero(masses > 1e-25)
    exact = {0.0: 1.0}
    for _ in range(8):
        added: dict[float, float] = {}
        for total, mass in exact.items():
            for value in values:
                key = round(total + (value - trials * rate) ** 2, 6)
                added[key] = added.get(key, 0.0) + mass * masses[value]
        exact = added
    return exact


@pytest.mark.parametrize(
    ("trials", "rate"), mostly_slow([(1, 0.1), (3, 0.4), (40, 0.02)], lambda case: case[0] < 40)
)
@pytest.mark.parametrize("small", [True, False])
def test_the_bound_is_above_the_exact_tail_and_not_far(
    trials: int, rate: float, small: bool
) -> None:
    """The distribution of the dispersion of eight counts, by adding up that of one eight times."""
    exact = dispersions(trials, rate)
    drawn = np.full(8, round(trials * rate)) if small else np.array([2] * 3 + [0] * 5)
    drawn = np.minimum(drawn, trials)
    seen = round(float(((drawn - trials * rate) ** 2).sum()), 6)
    tail = sum(
        mass
        for total, mass in exact.items()
        if (total <= seen + 1e-5 if small else total >= seen - 1e-5)
    )
    bound = sampling._dispersion_tails(drawn, trials, rate)[0 if small else 1]
    assert tail <= bound * (1 + 1e-9)
    assert bound <= 10 * tail


def test_shuffled_counts_are_exact() -> None:
    counted = tally(shuffled, 40)
    assert counted.disagreement("shuffle", steps=40, epochs=2, rate=0.05) == ""
    poisson = tally(each(lambda rng: rng.choice(2_000, 100, replace=False)), 40)
    said = poisson.disagreement("shuffle", steps=40, epochs=2, rate=0.05)
    assert said.endswith("examples were not drawn once an epoch")


@pytest.mark.parametrize("kind", ["poisson", "shuffle"])
def test_an_epoch_is_the_same_number_of_steps_for_both(kind: Sampling) -> None:
    drawn = sampling.batches(kind, examples=1_437, batch_size=64, rng=np.random.default_rng(0))
    sizes = [len(batch) for batch in islice(drawn, 100 * 22)]  # round(1437 / 64) steps an epoch
    if kind == "shuffle":
        assert set(sizes) == {65, 66}
        assert {sum(sizes[start : start + 22]) for start in range(0, len(sizes), 22)} == {1_437}
    else:  # the mean size is the batch size that was asked, and not that of the even parts
        assert np.mean(sizes) == pytest.approx(64, abs=4 * (64 / len(sizes)) ** 0.5)
        assert min(sizes) < 48
        assert max(sizes) > 80  # two standard deviations from it
