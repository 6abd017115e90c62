"""The whole privacy curve, against Google's dp_accounting and in closed form; never too private."""

import math
import warnings

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from factories import mostly_slow
from scipy.stats import norm

from dpbench.auditing import trade_off
from dpbench.auditing.trade_off import curve
from dpbench.privacy.accounting import spent

SETTINGS = [
    (2.0, 0.5, 8),
    (0.6, 0.5, 10),
    (1.0, 0.25, 20),
    (1.1, 0.01, 300),
    (8.0, 0.9, 12),
    (1.5, 1.0, 4),
]
FEW = mostly_slow(SETTINGS, lambda setting: setting[0] in (2.0, 1.1, 1.5))


@pytest.mark.parametrize(("noise", "rate", "steps"), FEW)
def test_deltas_are_those_of_pld_or_a_little_more(noise: float, rate: float, steps: int) -> None:
    """Its accountant takes the worse of both directions, and so must this."""
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant = pld.PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps))
    at = curve(noise_multiplier=noise, sample_rate=rate, steps=steps)
    for epsilon in (0.0, 0.1, 0.5, 1.0, 2.0, 4.0):
        index = int(np.searchsorted(at.epsilons, epsilon))
        if index == len(at.epsilons):
            continue
        below = accountant.get_delta(float(at.epsilons[index]) + at.rounding)
        above = accountant.get_delta(max(0.0, float(at.epsilons[index]) - 2 * at.rounding))
        assert below - 1e-8 <= at.deltas[index] <= above + 1e-8 + 2 * at.rounding * (epsilon == 0)
        # rounded up, so never less than the true one, which theirs is above by its own rounding
        assert at.deltas[index] >= accountant.get_delta(float(at.epsilons[index])) - 1e-3


@pytest.mark.parametrize(("noise", "rate", "steps"), SETTINGS)
def test_its_epsilon_is_a_lower_bound_that_the_accountant_confirms(
    noise: float, rate: float, steps: int
) -> None:
    at = curve(noise_multiplier=noise, sample_rate=rate, steps=steps)
    claimed = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=1e-5).epsilon
    assert claimed - 0.06 < at.epsilon(1e-5) < claimed


@pytest.mark.parametrize("probability", [0.001, 0.05, 0.3, 0.7])
def test_without_sampling_the_trade_off_is_the_gaussians(probability: float) -> None:
    """Dong, Roth and Su 2022: G_mu, with mu = sqrt(steps) / noise."""
    mu = math.sqrt(4) / 1.5
    exact = float(norm.cdf(norm.ppf(probability) - mu))
    got = curve(noise_multiplier=1.5, sample_rate=1.0, steps=4).least_other(probability)
    assert exact * 0.97 <= got <= exact


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    mostly_slow(
        [(0.2146, 1.0, 8), (0.0543, 1.0, 1), (0.1004, 0.25, 32), (0.0573, 0.01, 200)],
        lambda case: case[1] == 1,
    ),
)
def test_a_loss_too_large_for_an_exponential_is_no_invalid_number(
    noise: float, rate: float, steps: int
) -> None:
    """Without sampling every output has a loss, however far below -709 it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at = curve(noise_multiplier=noise, sample_rate=rate, steps=steps)
        least = [at.least_other(probability) for probability in (0.0, 0.3, 1.0)]
    assert np.isfinite(at.deltas).all()
    assert (np.diff(at.deltas) <= 0).all()
    assert least == sorted(least)
    if rate == 1:
        mu = math.sqrt(steps) / noise
        epsilon = at.epsilon(1e-5)
        exact = dp_accounting.get_epsilon_gaussian(1 / mu, 1e-5)
        assert exact - 2 * at.rounding <= epsilon <= exact


def test_no_step_has_less_than_no_mass_at_a_loss() -> None:
    losses = np.linspace(-2_000, 2_000, 4_001)
    for direction in trade_off._DIRECTIONS:
        for noise in (0.02, 0.5, 3.0):
            for rate in (0.01, 0.5, 1.0):
                masses, beyond = trade_off._masses(losses, direction, noise, rate)
                assert (masses >= 0).all()
                assert masses.sum() + beyond == pytest.approx(1)


@pytest.mark.parametrize(("noise", "rate", "steps"), FEW)
def test_a_finer_curve_has_a_tighter_epsilon(noise: float, rate: float, steps: int) -> None:
    coarse = curve(noise_multiplier=noise, sample_rate=rate, steps=steps)
    fine = curve(noise_multiplier=noise, sample_rate=rate, steps=steps, rounding=0.001)
    assert fine.rounding < 0.2 * coarse.rounding
    claimed = spent(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=1e-5).epsilon
    assert coarse.epsilon(1e-5) < fine.epsilon(1e-5) < claimed
    assert fine.epsilon(1e-5) > claimed - 0.025  # an accountant may be above the truth by 0.02


def test_more_noise_is_more_privacy() -> None:
    others = [
        curve(noise_multiplier=noise, sample_rate=0.3, steps=10).least_other(0.05)
        for noise in (0.5, 1.0, 2.0, 4.0, 100.0)
    ]
    assert others == sorted(others)
    assert others[-1] == pytest.approx(0.05, rel=0.15)
