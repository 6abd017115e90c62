"""Bounds on the noise, on noise that is known."""

import math

import numpy as np
import pytest

from dpbench.auditing.residuals import Residuals, dependence, noise_bound


def run(vectors: np.ndarray) -> Residuals:
    return Residuals(
        vectors=vectors.astype(np.float32),
        squares=float((vectors**2).sum()),
        dimensions=vectors.shape[1],
        steps=len(vectors),
    )


def drawn(rng: np.random.Generator, *, runs: int, steps: int, dimensions: int) -> list[Residuals]:
    return [run(rng.normal(size=(steps, dimensions))) for _ in range(runs)]


def test_the_noise_is_above_its_bound_as_often_as_it_may_be() -> None:
    """Exactly chi-square: in 20 dimensions, where no approximation would do."""
    rng = np.random.default_rng(0)
    draws = 4_000
    wrong = sum(
        noise_bound(drawn(rng, runs=2, steps=2, dimensions=5), confidence=0.9) < 1
        for _ in range(draws)
    )
    assert wrong / draws == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / draws))


def test_the_bound_is_close_and_in_the_noises_unit() -> None:
    runs = drawn(np.random.default_rng(1), runs=4, steps=4, dimensions=20_000)
    assert 1 < noise_bound(runs, confidence=0.9999) < 1.01
    third = [run(each.vectors / 3) for each in runs]
    ratio = noise_bound(third, confidence=0.9) / noise_bound(runs, confidence=0.9)
    assert ratio == pytest.approx(1 / 3)


def test_whatever_else_is_left_in_a_residual_makes_the_noise_look_larger() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(8, 1_000))
    rest = rng.normal(size=1_000)
    assert noise_bound([run(noise + rest)], confidence=0.9) > 1.3


def test_independent_noise_is_found_correlated_no_more_often_than_it_may_be() -> None:
    """Bonferroni is nearly exact for so many pairs of vectors that are independent in pairs."""
    rng = np.random.default_rng(3)
    draws = 1_000
    found = [dependence(drawn(rng, runs=2, steps=3, dimensions=50))[1] for _ in range(draws)]
    share = float(np.mean(np.array(found) <= 0.1))
    assert share <= 0.1 + 4 * math.sqrt(0.09 / draws)
    assert share > 0.05


@pytest.mark.parametrize(
    ("weights", "where"),
    [
        ((0.0, 1.0), (0, 1)),  # the same noise, at the next step
        ((0.0, -1.0), (0, 3)),  # its opposite, later
        ((0.995, 0.1), (1, 2)),  # a hundredth of the variance in common
        ((0.0, 1.0), (2, 6)),  # noise of another run
    ],
    ids=str,
)
def test_noise_used_again_is_found(weights: tuple[float, float], where: tuple[int, int]) -> None:
    vectors = np.random.default_rng(4).normal(size=(8, 25_000))
    runs = [run(vectors[:4]), run(vectors[4:])]
    assert dependence(runs)[1] > 1e-4
    first, second = where
    vectors[second] = weights[0] * vectors[second] + weights[1] * vectors[first]
    correlation, p_value = dependence([run(vectors[:4]), run(vectors[4:])])
    assert p_value < 1e-6
    assert correlation == pytest.approx(abs(weights[1]), abs=0.03)


def test_residuals_of_other_spaces_only_look_less_alike() -> None:
    """Each projected off its own gradients: the test may find less, never more."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(300):
        noise = rng.normal(size=(4, 60))
        for step in range(4):
            basis, _ = np.linalg.qr(rng.normal(size=(60, 20)))
            noise[step] -= basis @ (basis.T @ noise[step])
        residuals = Residuals(vectors=noise.astype(np.float32), squares=1.0, dimensions=40, steps=4)
        found.append(dependence([residuals])[1])
    assert float(np.mean(np.array(found) <= 0.1)) <= 0.1


def test_what_is_no_number_or_has_no_pair_says_nothing() -> None:
    one = run(np.ones((1, 10)))
    assert dependence([one]) == (0.0, 1.0)
    broken = run(np.full((3, 10), np.nan))
    assert dependence([broken, one]) == (0.0, 1.0)
    assert noise_bound([broken, one], confidence=0.9) == math.inf
    assert noise_bound([run(np.zeros((3, 10)))], confidence=0.9) == 0
