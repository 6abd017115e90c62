"""Accountants: the epsilon of composed Gaussian mechanisms by Renyi divergences, PLD and GDP.

Numbers in and numbers out; `accounting` knows what a trial is and chooses among them. No torch.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import numpy as np

# dp_accounting is imported where it computes: that takes 0.8 s, and most reports need it not

# Opacus' default orders, and four larger ones, without which the bound is loose below epsilon 0.4.
RDP_ORDERS = (
    *(1 + tenth / 10 for tenth in range(1, 100)),
    *(float(order) for order in range(12, 64)),
    *(128.0, 256.0, 512.0, 1024.0),
)
FEW_RDP_ORDERS = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 256.0, 1024.0)
_RDP_ROUNDING = 1e-13  # of a step's divergence; it matters where noise hides a step almost wholly

# The width of PLD's grid, so that rounding up to the grid adds about 1e-4 of epsilon: a part of the
# standard deviation of a step's privacy loss, and where a few steps carry most of the loss, which
# is where epsilon is large, at most the larger of a constant and a part of epsilon.
_INTERVAL_OF_DEVIATION = 0.05
_WIDEST_INTERVAL, _WIDEST_INTERVAL_OF_EPSILON = 1e-3, 2e-5
_WIDEST_INTERVAL_OF_ALL = 32.0
PLD_LEAST_NOISE = 0.01  # below, epsilon is in the thousands and the grid has no good width
_PLD_ROUNDING = 10 * 2.0**-52  # of PLD's delta, for each step


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon at delta of a Gaussian mechanism of sensitivity mu and noise 1, at least 0.

    The root of delta = Phi(mu/2 - eps/mu) - exp(eps) Phi(-mu/2 - eps/mu), which falls with epsilon.
    """
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    def log_excess(epsilon: float) -> float:
        first = log_ndtr(mu / 2 - epsilon / mu)
        second = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
        if second >= first:  # by rounding, where delta is below 1e-16 of either
            return -math.inf
        return float(first + math.log1p(-math.exp(second - first))) - math.log(delta)

    if log_excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while log_excess(high) > 0:
        high *= 2
    root = float(brentq(lambda e: max(log_excess(e), -1e3), 0.0, high, xtol=1e-12, rtol=1e-14))
    return root * (1 + 1e-12) + 1e-12  # on the side of more epsilon


@cache
def rdp_of_a_step(noise: float, sample_rate: float, orders: tuple[float, ...] = RDP_ORDERS) -> Any:
    """Renyi divergences, float64 [orders]: slow, and the same for every epoch."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, rdp

    accountant = rdp.RdpAccountant(orders)
    with _quiet():
        accountant.compose(PoissonSampledDpEvent(sample_rate, GaussianDpEvent(noise)))
    return np.maximum(accountant.rdp, 0.0) + _RDP_ROUNDING


def rdp_epsilon(divergences: Any, delta: float, orders: tuple[float, ...] = RDP_ORDERS) -> float:
    """The least epsilon over the orders, at least 0."""
    from dp_accounting import rdp

    with _quiet():
        epsilon, _ = rdp.compute_epsilon(orders, divergences, delta)
    return max(0.0, float(epsilon))


def pld_epsilon(
    noise: float, sample_rate: float, steps: int, delta: float, by_rdp: float, *, widen: int = 1
) -> tuple[float | None, str | None]:
    """(epsilon, None), or (None, why there is none).

    Rounding in the composition changes delta by at most about `_PLD_ROUNDING` a step, found by
    Gaussian mechanisms, whose epsilon is known; delta is reduced by as much.
    """
    if noise < PLD_LEAST_NOISE:
        return None, f"pld: not computed for noise multipliers below {PLD_LEAST_NOISE:g}"
    rounding = steps * _PLD_ROUNDING
    if rounding > delta / 2:
        return None, f"pld: not exact enough for delta {delta:g} after {steps} steps"
    interval = widen * _pld_interval(noise, sample_rate, by_rdp)
    composed = _pld_of_a_step(noise, sample_rate, interval).self_compose(steps)
    return max(0.0, float(composed.get_epsilon_for_delta(delta - rounding))), None


def _pld_interval(noise: float, sample_rate: float, by_rdp: float) -> float:
    """The width of PLD's grid; a power of two, so that an arm's epochs share a step's loss."""
    deviation = sample_rate * math.sqrt(math.expm1(min(noise**-2, 50.0)))
    widest = max(_WIDEST_INTERVAL, _WIDEST_INTERVAL_OF_EPSILON * by_rdp)
    interval = min(_INTERVAL_OF_DEVIATION * deviation, widest, _WIDEST_INTERVAL_OF_ALL)
    return float(2.0 ** math.floor(math.log2(interval)))


@lru_cache(maxsize=16)  # megabytes each
def _pld_of_a_step(noise: float, sample_rate: float, interval: float) -> Any:
    """The privacy loss distribution of one step, of adding and of removing an example."""
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=sample_rate, value_discretization_interval=interval
    )


def gdp_epsilon(noise: float, sample_rate: float, steps: int, delta: float) -> float | None:
    """Bu et al. 2020, "Deep Learning with Gaussian Differential Privacy", corollary 5.4."""
    if noise**-2 > 500:
        return None
    return gaussian_epsilon(sample_rate * math.sqrt(steps * math.expm1(noise**-2)), delta)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences dp_accounting's messages on orders that it skips: the bound holds without them."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
