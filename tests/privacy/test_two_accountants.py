"""What dpbench reports, by Google's dp_accounting, against Opacus' accountants.

Two independent implementations: the privacy loss as a discretised distribution (PLD) against the
Fourier transform of a continuous density (PRV), and two of Renyi differential privacy.
"""

import math
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from dp_accounting import pld, rdp
from factories import mostly_slow
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from dpbench.privacy import prv
from dpbench.privacy.accountants import RDP_ORDERS
from dpbench.privacy.accounting import (
    account,
    shuffled_event,
    spent,
)
from dpbench.privacy.calibration import noise_multiplier_for

GRID = [
    (noise, rate, steps, delta)
    for noise in (0.6, 1.0, 2.0, 8.0)
    for rate in (64 / 60_000, 0.02, 0.2)
    for steps in (1, 100, 3_000)
    for delta in (1e-5, 1e-8)
    if rate * math.sqrt(steps) / noise < 4  # beyond, epsilon is in the hundreds
]


def thinned(cases: list[tuple[float, float, int, float]], *, every: int) -> list[Any]:
    """Cases in which each value of each parameter occurs; the others are slow tests."""
    kept = cases[::every]
    assert [set(values) for values in zip(*kept, strict=True)] == [
        set(values) for values in zip(*cases, strict=True)
    ]
    return [case if case in kept else pytest.param(*case, marks=pytest.mark.slow) for case in cases]


def event(noise: float, rate: float, steps: int) -> Any:
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(step, steps)


def pld_epsilon(
    noise: float, rate: float, steps: int, delta: float, interval: float = 1e-4
) -> float:
    accountant = pld.PLDAccountant(value_discretization_interval=interval)
    accountant.compose(event(noise, rate, steps))
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(("noise", "rate", "steps", "delta"), thinned(GRID, every=9))
def test_pld_is_prv_without_its_margin(noise: float, rate: float, steps: int, delta: float) -> None:
    ours = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta)
    assert ours.epsilon_pld is not None
    theirs, _ = prv.epsilon(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta)
    if theirs is None:  # it would take too long
        assert ours.epsilon_pld > 15
        return
    # never below it, and above by no more than Opacus' own margin and as much again
    assert -1e-3 <= theirs - ours.epsilon_pld <= 0.02
    assert ours.epsilon_rdp is not None
    assert ours.epsilon == min(ours.epsilon_pld, ours.epsilon_rdp)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    mostly_slow([case for case in GRID if case[3] == 1e-5], lambda case: case[:2] == (2.0, 0.02)),
)
def test_our_grid_gives_what_the_usual_one_gives(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    """Its interval is chosen by the mechanism; dp_accounting's usual one is 1e-4."""
    ours = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta).epsilon_pld
    usual = pld_epsilon(noise, rate, steps, delta)
    assert ours is not None
    assert ours <= usual + 3e-4 * max(1.0, usual)
    finer = pld_epsilon(noise, rate, steps, delta, 2e-5) if usual < 0.5 else usual
    assert ours >= finer * (1 - 4e-3)


@pytest.mark.filterwarnings("ignore:Optimal order is the")  # the bound holds
@pytest.mark.parametrize(("noise", "rate", "steps", "delta"), thinned(GRID, every=9))
def test_rdp_is_rdp(noise: float, rate: float, steps: int, delta: float) -> None:
    """At whole orders, where both sum the same binomial series exactly."""
    from opacus.accountants import RDPAccountant

    orders = [float(order) for order in range(2, 256)]
    ours = rdp.RdpAccountant(orders)
    ours.compose(event(noise, rate, steps))
    theirs = RDPAccountant()
    theirs.history = [(noise, rate, steps)]
    whole = theirs.get_epsilon(delta, alphas=orders)
    assert ours.get_epsilon(delta) == pytest.approx(whole, abs=0.005)
    more = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta).epsilon_rdp
    assert more is not None
    if whole < 15:  # beyond, dp_accounting leaves out fractional orders whose series is too long
        theirs_at_ours = theirs.get_epsilon(delta, alphas=list(RDP_ORDERS))
        assert more == pytest.approx(theirs_at_ours, abs=0.005)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "expected"),
    [
        pytest.param(4.0, 0.01, 10_000, 0.9470, id="abadi-2016"),  # moments accountant: 1.26
        pytest.param(1.3, 64 / 60_000, 9_380, 0.321, id="tutorial"),  # PRV 0.331 with its margin
    ],
)
def test_golden_rows_of_pld(noise: float, rate: float, steps: int, expected: float) -> None:
    assert pld_epsilon(noise, rate, steps, 1e-5) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("noise", [0.7, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_one_step_on_everyone_is_the_analytic_gaussian_mechanism(
    noise: float, delta: float
) -> None:
    """Balle and Wang 2018, theorem 8, with sensitivity 1."""

    def excess(epsilon: float) -> float:
        left = norm.cdf(0.5 / noise - epsilon * noise)
        right = math.exp(epsilon) * norm.cdf(-0.5 / noise - epsilon * noise)
        return float(left - right - delta)

    exact = brentq(excess, 0, 50)
    ours = spent(noise_multiplier=noise, sample_rate=1.0, steps=1, delta=delta)
    assert exact <= ours.epsilon <= exact * 1.001
    assert ours.epsilon_rdp is not None
    assert ours.epsilon_rdp >= exact
    shuffled = account(shuffled_event(noise_multiplier=noise, epochs=1), delta)
    assert shuffled.epsilon == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(
    ("noise", "epochs"), [(0.5, 1), (0.5, 10), (1.0, 10), (4.0, 1), (4.0, 200), (40.0, 200)]
)
@pytest.mark.parametrize("delta", [1e-5, 1e-12])
def test_shuffled_batches_spend_what_google_says_of_so_many_gaussians(
    noise: float, epochs: int, delta: float
) -> None:
    ours = account(shuffled_event(noise_multiplier=noise, epochs=epochs), delta)
    theirs = pld.PLDAccountant(value_discretization_interval=1e-3)
    theirs.compose(dp_accounting.GaussianDpEvent(noise), epochs)
    # theirs rounds every loss up, so it is above by as much as an interval or so
    assert ours.epsilon == pytest.approx(theirs.get_epsilon(delta), abs=0.02)


noises = st.floats(0.6, 8)
rates = st.floats(1e-3, 0.05)
counts = st.integers(1, 2_000)
deltas = st.floats(1e-8, 1e-4)
powers = st.floats(-13, -1)  # of ten, as delta
SLACK = 3e-4  # of the grid that PLD rounds up to, which moves with the mechanism


@pytest.mark.parametrize("examples", mostly_slow([2, 8], lambda count: count == 2))
def test_epsilon_moves_as_it_must(examples: int) -> None:
    draws = given(noises, rates, counts, deltas, st.floats(1.05, 2))
    settings(max_examples=examples, deadline=None)(draws(moves_as_it_must))()


def moves_as_it_must(noise: float, rate: float, steps: int, delta: float, factor: float) -> None:
    """It falls with noise and delta, and rises with sample rate and steps."""
    asked: dict[str, Any] = {
        "noise_multiplier": noise,
        "sample_rate": rate,
        "steps": steps,
        "delta": delta,
    }
    at = spent(**asked)
    for name, sign in (("noise_multiplier", -1), ("delta", -1), ("sample_rate", 1), ("steps", 1)):
        value = asked[name] * factor
        moved = spent(**asked | {name: math.ceil(value) if name == "steps" else value})
        for field in ("epsilon_pld", "epsilon_rdp"):
            before, after = getattr(at, field), getattr(moved, field)
            assert sign * (after - before) >= -SLACK * max(1.0, before), (name, field)


@pytest.mark.parametrize("examples", mostly_slow([3, 12], lambda count: count == 3))
def test_epsilon_is_never_below_pld_at_any_delta(examples: int) -> None:
    draws = given(noises, rates, st.integers(1, 500), powers)
    first = example(0.8, 0.004, 2340, -13)  # Opacus' PRV alone would be 0.25 below
    second = example(2.0, 0.001, 10, -0.3)
    third = example(8.0, 1 / 256, 6, -12)  # PLD by 1e-3 is 0.00975, by 1e-4 to 3e-6 0.0080
    test = draws(first(second(third(is_never_below_pld))))
    settings(max_examples=examples, deadline=None)(test)()


def is_never_below_pld(noise: float, rate: float, steps: int, power: float) -> None:
    ours = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=10**power)
    # for small delta a fine interval costs PLD its own digits, and a coarse one rounds it up
    theirs = pld_epsilon(noise, rate, steps, 10**power, 1e-4 if power >= -11 else 1e-3)
    if theirs < 0.05:  # losses are rounded up to the interval, which is coarse for such small ones
        theirs = pld_epsilon(noise, rate, steps, 10**power, 1e-4)
    for found in (ours.epsilon, ours.epsilon_rdp, ours.epsilon_pld):
        assert found is None or found >= max(0.0, theirs - 1e-3 - 0.07 * theirs)


@pytest.mark.parametrize("examples", mostly_slow([1, 5], lambda count: count == 1))
def test_a_solved_noise_is_an_inverse_that_errs_towards_privacy(
    examples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # or what was solved before would be found
    draws = given(st.floats(0.3, 8), rates, st.integers(50, 2_000))
    settings(max_examples=examples, deadline=None)(draws(inverts))()


def inverts(target_epsilon: float, rate: float, steps: int) -> None:
    asked: dict[str, Any] = {"sample_rate": rate, "steps": steps, "delta": 1e-5}
    noise = noise_multiplier_for(target_epsilon=target_epsilon, **asked)
    got = spent(noise_multiplier=noise, **asked).epsilon
    assert got <= target_epsilon
    less = spent(noise_multiplier=noise * 0.99, **asked).epsilon
    assert less > target_epsilon - SLACK
