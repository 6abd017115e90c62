from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from scipy import stats

from dpbench import sampling
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

# (what a sampler with a fault draws of 2,000 examples for a batch of 100, what is said of it)
FAULTS: dict[str, tuple[Draw, str]] = {
    "five per cent too many": (
        lambda rng: rng.choice(2_000, rng.binomial(2_000, 0.0525), replace=False),
        "at rate 0.05",
    ),
    "with replacement": (lambda rng: rng.choice(2_000, 100), "twice into one batch"),
    "half of the examples": (
        lambda rng: rng.choice(2_000, rng.binomial(1_000, 0.05), replace=False),
        "at rate 0.02",
    ),
}


def tally(draw: Draw, steps: int) -> sampling.Tally:
    rng, counted = np.random.default_rng(0), sampling.Tally(2_000)
    for _ in range(steps):
        counted.count(draw(rng))
    return counted


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sampler_that_draws_otherwise_is_found(fault: str) -> None:
    draw, said = FAULTS[fault]
    counted = tally(draw, 2_000)
    assert said in counted.disagreement("poisson", steps=2_000, epochs=100, rate=0.05)


def test_a_right_sampler_agrees_and_a_missing_step_does_not() -> None:
    for seed in range(200):
        counted = sampling.Tally(2_000)
        for batch in batches(20, 0.05, examples=2_000, seed=seed):
            counted.count(batch)
        assert counted.disagreement("poisson", steps=20, epochs=1, rate=0.05) == ""
    said = counted.disagreement("poisson", steps=21, epochs=1, rate=0.05)
    assert said == "the sampler drew 20 batches, not 21"


def test_shuffled_counts_are_exact() -> None:
    rng = np.random.default_rng(0)
    right = sampling.shuffled_batches(examples=2_000, steps_per_epoch=20, rng=rng)
    counted = tally(lambda _: next(right), 40)
    assert counted.disagreement("shuffle", steps=40, epochs=2, rate=0.05) == ""
    poisson = tally(lambda rng: rng.choice(2_000, 100, replace=False), 40)
    said = poisson.disagreement("shuffle", steps=40, epochs=2, rate=0.05)
    assert said.endswith("examples were not drawn once an epoch")


@pytest.mark.parametrize(("kind", "size"), [("poisson", 64), ("shuffle", 62)])
def test_an_epoch_is_the_same_number_of_steps_for_both(kind: Sampling, size: int) -> None:
    drawn = sampling.batches(kind, examples=1_437, batch_size=64, rng=np.random.default_rng(0))
    epoch = list(islice(drawn, 22))  # round(1437 / 64) steps
    assert np.mean([len(batch) for batch in epoch]) == pytest.approx(1_437 / 22, rel=0.1)
    assert min(len(batch) for batch in epoch) <= size + 3
