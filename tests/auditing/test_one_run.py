"""Bounds from guesses, on mechanisms whose privacy is known, and against another implementation."""

import importlib.util
import math
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import dp_accounting
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, norm

from dpbench.auditing.one_run import Guesses, epsilon_bound, guess, noise_bound, p_value, refutes
from dpbench.auditing.trade_off import Curve, curve


def gaussian_least_other(probability: float, mu: float) -> float:
    """Of a Gaussian mechanism whose neighbours are mu standard deviations apart."""
    return float(norm.cdf(norm.ppf(probability) - mu))


@pytest.fixture(scope="session")
def theirs() -> ModuleType:
    """jax_privacy.auditing by itself: it needs no JAX, which importing the package would."""
    package = importlib.util.find_spec("jax_privacy")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "auditing.py"
    spec = importlib.util.spec_from_file_location("jax_privacy_auditing", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def scores(guesses: Guesses) -> tuple[list[float], list[float]]:
    """Of canaries in and out, so that those above 0.5 are the guesses, as jax_privacy takes them.

    It guesses only who is in, so the guesses are all of one kind; the theorems do not mind.
    """
    wrong = guesses.made - guesses.right
    half = guesses.canaries // 2
    return (
        [1.0] * guesses.right + [0.0] * (half - guesses.right),
        [1.0] * wrong + [0.0] * (guesses.canaries - half - wrong),
    )


CASES = [
    Guesses(canaries=canaries, made=made, right=right)
    for canaries, made, right in (
        (1000, 100, 100),
        (1000, 100, 90),
        (1000, 250, 200),
        (1000, 400, 300),
        (200, 20, 19),
        (2000, 600, 330),
        (64, 10, 10),
    )
]
EVERY_CASE = pytest.mark.parametrize("guesses", CASES, ids=str)


@EVERY_CASE
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_the_bound_for_any_mechanism_is_jax_privacys(
    guesses: Guesses, delta: float, confidence: float, theirs: ModuleType
) -> None:
    expected = theirs.CanaryScoreAuditor(*scores(guesses)).epsilon_one_run(
        1 - confidence, delta, threshold_strategy=theirs.Explicit(0.5)
    )
    got = epsilon_bound([guesses], delta=delta, confidence=confidence)
    assert got == pytest.approx(expected, abs=2e-4)


@EVERY_CASE
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_the_test_of_a_trade_off_function_is_jax_privacys(
    guesses: Guesses, confidence: float, theirs: ModuleType
) -> None:
    """Where Gaussian mechanisms stop being refuted, as an epsilon at delta 1e-5."""
    expected = theirs.CanaryScoreAuditor(*scores(guesses)).epsilon_one_run_fdp(
        1 - confidence, 1e-5, threshold_strategy=theirs.Explicit(0.5)
    )
    for epsilon, refuted in ((expected - 0.01, True), (expected + 0.01, False)):
        if epsilon > 0:
            mu = 1 / dp_accounting.get_sigma_gaussian(epsilon, 1e-5)
            other = partial(gaussian_least_other, mu=mu)
            assert refutes(guesses, other, 1 - confidence) == refuted


def test_without_delta_it_is_a_binomial_tail() -> None:
    guesses = Guesses(canaries=500, made=100, right=80)
    exact = float(binom.sf(79, 100, expit(1.0)))
    assert p_value(guesses, 1.0, 0.0) == pytest.approx(exact)


def test_all_guesses_right_is_a_bound_in_closed_form() -> None:
    """(e^epsilon / (1 + e^epsilon))^k = 1 - confidence, for a delta that does not matter."""
    got = epsilon_bound([Guesses(canaries=100, made=100, right=100)], delta=1e-12, confidence=0.95)
    accuracy = 0.05 ** (1 / 100)
    assert got == pytest.approx(math.log(accuracy / (1 - accuracy)), abs=1e-3)


def test_guesses_no_better_than_a_coin_say_nothing() -> None:
    coin = Guesses(canaries=512, made=128, right=64)
    assert epsilon_bound([coin], delta=1e-5, confidence=0.95) == 0
    at = partial(curve, sample_rate=0.5, steps=8)
    bound = noise_bound(
        [coin] * 4, lambda noise: at(noise_multiplier=noise), claimed=2.0, confidence=0.95
    )
    assert bound is None


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_randomised_response_is_bounded_by_its_epsilon_and_nearly_reached(epsilon: float) -> None:
    """Each coin is told truly with probability e^epsilon / (1 + e^epsilon): exactly epsilon-DP."""
    rng = np.random.default_rng(1)
    bounds = []
    for _ in range(100):
        right = int(rng.binomial(2_000, expit(epsilon)))
        told = Guesses(canaries=2_000, made=2_000, right=right)
        bounds.append(epsilon_bound([told], delta=1e-9, confidence=0.9))
    wrong = np.mean(np.array(bounds) > epsilon)
    assert wrong <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 100)
    assert np.median(bounds) > 0.8 * epsilon


def simulated(rng: np.random.Generator, *, noise: float, runs: int = 4) -> list[Guesses]:
    """Guesses of canaries that do not meet each other, rate 0.5, 8 steps, by likelihood ratio."""
    found = []
    for _ in range(runs):
        coins = rng.random(512) < 0.5
        member = (rng.random((512, 8)) < 0.5) & coins[:, None]
        seen = member + noise * rng.normal(size=(512, 8))
        ratios = np.logaddexp(0, (2 * seen - 1) / (2 * noise**2)).sum(axis=1)
        found.append(guess(ratios, coins, 0.25))
    return found


def rounded(noise: float) -> Curve:
    """Of the simulated mechanism; noise to two digits, so that few curves are computed."""
    return curve(noise_multiplier=float(f"{noise:.2g}"), sample_rate=0.5, steps=8)


def test_all_runs_must_refute_a_noise_each_at_the_root_of_the_error() -> None:
    """Three runs that guess well show nothing beside one that does not."""
    well, badly = (Guesses(canaries=512, made=128, right=right) for right in (110, 64))
    asked: dict[str, Any] = {"claimed": 2.0, "confidence": 0.95}
    assert noise_bound([well, well, well, badly], rounded, **asked) is None
    for runs in (1, 2, 4):
        bound = noise_bound([well] * runs, rounded, **asked)
        assert bound is not None
        significance = 0.05 ** (1 / runs)
        assert refutes(well, rounded(bound * 1.02).least_other, significance)
        assert not refutes(well, rounded(bound * 0.98).least_other, significance)


def test_a_simulated_mechanism_is_bounded_by_its_noise_and_not_in_vain() -> None:
    """A bound fails in far fewer than the 5 % that it may; half the noise is always found."""
    rng = np.random.default_rng(2)
    for noise, draws, refuted in ((2.0, 50, 0), (1.0, 10, 10)):
        bounds = [
            noise_bound(simulated(rng, noise=noise), rounded, claimed=2.0, confidence=0.95)
            for _ in range(draws)
        ]
        assert sum(bound is not None and bound <= 2.0 for bound in bounds) == refuted
    bound = noise_bound(simulated(rng, noise=2.0), rounded, claimed=2.0, confidence=0.95)
    assert bound is not None
    assert 2.0 < bound < 5.0
    epsilon = rounded(bound).epsilon(1e-5)
    pooled = epsilon_bound(simulated(rng, noise=2.0), delta=1e-5, confidence=0.95)
    assert 1.0 < epsilon < 3.55  # the true one
    assert pooled < epsilon  # the trade-off function is the tighter


counts = st.integers(1, 400)


@settings(max_examples=60, deadline=None)
@given(counts, counts, counts, st.floats(0.5, 0.99), st.floats(1e-9, 1e-3))
def test_the_bound_moves_as_it_must(
    a: int, b: int, c: int, confidence: float, delta: float
) -> None:
    """Up with a right guess; down with confidence, delta and canaries that are not guessed."""
    right, made, canaries = sorted((a, b, c))

    def at(right: int, canaries: int, confidence: float, delta: float) -> float:
        guesses = Guesses(canaries=canaries, made=made, right=right)
        return epsilon_bound([guesses], delta=delta, confidence=confidence)

    bound = at(right, canaries, confidence, delta)
    slack = 1e-3  # of the bisection
    assert bound >= 0
    assert at(right, 2 * canaries, confidence, delta) <= bound + slack
    assert at(right, canaries, (1 + confidence) / 2, delta) <= bound + slack
    assert at(right, canaries, confidence, 2 * delta) <= bound + slack
    if right < made:
        assert at(right + 1, canaries, confidence, delta) >= bound - slack


@settings(max_examples=60, deadline=None)
@given(counts, counts, counts, st.floats(0.05, 3), st.floats(0.01, 0.5))
def test_a_refuted_mechanism_stays_refuted_with_more_privacy_and_more_right_guesses(
    a: int, b: int, c: int, mu: float, significance: float
) -> None:
    right, made, canaries = sorted((a, b, c))
    guesses = Guesses(canaries=canaries, made=made, right=right)
    if not refutes(guesses, partial(gaussian_least_other, mu=mu), significance):
        return
    assert refutes(guesses, partial(gaussian_least_other, mu=mu / 2), significance)
    assert refutes(guesses, partial(gaussian_least_other, mu=mu), min(0.99, 1.5 * significance))
    if right < made:
        more = Guesses(canaries=canaries, made=made, right=right + 1)
        assert refutes(more, partial(gaussian_least_other, mu=mu), significance)


def test_both_ends_of_the_scores_are_guessed() -> None:
    coins = np.array([True] * 8 + [False] * 8)
    ordered = np.arange(16)[::-1].astype(float)
    assert guess(ordered, coins, 0.25) == Guesses(canaries=16, made=4, right=4)
    assert guess(-ordered, coins, 0.25) == Guesses(canaries=16, made=4, right=0)
    with pytest.raises(ValueError, match="right <= made"):
        Guesses(canaries=4, made=2, right=3)
