"""(noise_multiplier, sample_rate, steps, delta) -> epsilon, and back.

The mechanism is the Poisson-subsampled Gaussian, composed over steps: every example joins a batch
independently with probability sample_rate; neighbours differ by adding or removing one example.
For shuffled batches it is the Gaussian, composed over epochs (`spent_shuffled`).
The numbers come from Opacus' accountants, which need no torch; importing the opacus package does,
so here its accountants are imported without it (`_opacus_accountants`).
"""

import importlib
import importlib.util
import math
import sys
import types
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

import numpy as np

from dpbench.trial import BadInput, Trial

# Opacus' own orders, and four larger ones, without which the bound is loose below epsilon 0.4.
RDP_ORDERS = (
    *(1 + tenth / 10 for tenth in range(1, 100)),
    *(float(order) for order in range(12, 64)),
    *(128.0, 256.0, 512.0, 1024.0),
)
_ORDERS_OF_OPACUS = RDP_ORDERS[:-4]
PRV_EPSILON_ERROR = 0.01  # Opacus' default: the PRV epsilon is an upper end, this far above
PRV_MAX_POINTS = 2**22  # of its discretised privacy loss: some seconds; beyond, epsilon is > 40
PRV_LEAST_DELTA = 1e-11  # below, its rounding shows, and it can be under the true epsilon
NOISE_DIGITS = 4  # a solved noise multiplier is rounded up to so many decimals
LEAST_SOLVED_NOISE, MOST_SOLVED_NOISE = 0.1, 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What some steps have spent.

    Attributes:
        epsilon: The primary one, by `accountant`; at least 0, as are the others.
        accountant: `prv`, or `rdp` where PRV gave no number; `gaussian` for shuffled batches.
        epsilon_prv: Privacy loss random variables (Gopi et al. 2021); None where it failed.
        epsilon_rdp: Renyi differential privacy (Mironov 2017; Mironov et al. 2019).
        epsilon_gdp: Gaussian differential privacy (Bu et al. 2020), by a central limit theorem:
            no bound, it can be too low. None where it has no solution.
        epsilon_if_poisson: For shuffled batches, what Poisson batches would have spent.
        note: Why an accountant gave no number.
    """

    epsilon: float
    accountant: str
    epsilon_prv: float | None = None
    epsilon_rdp: float | None = None
    epsilon_gdp: float | None = None
    epsilon_if_poisson: float | None = None
    note: str | None = None


@cache
def spent(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> Spent:
    """The epsilon of `steps` steps at `delta`, by each accountant.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm; 0 gives infinity.
        sample_rate: In (0, 1].
        steps: At least 1.
        delta: In (0, 1).
    """
    if noise_multiplier == 0:
        return Spent(
            epsilon=math.inf,
            accountant="prv",
            epsilon_prv=math.inf,
            epsilon_rdp=math.inf,
            epsilon_gdp=math.inf,
        )
    history = [(noise_multiplier, sample_rate, steps)]
    rdp = _rdp(history, delta)
    prv, prv_note = _prv(history, delta)
    gdp, gdp_note = _gdp(history, delta)
    return Spent(
        epsilon=rdp if prv is None else prv,
        accountant="rdp" if prv is None else "prv",
        epsilon_prv=prv,
        epsilon_rdp=rdp,
        epsilon_gdp=gdp,
        note="; ".join(note for note in (prv_note, gdp_note) if note) or None,
    )


@cache
def spent_shuffled(
    *, noise_multiplier: float, epochs: int, delta: float, if_poisson: float
) -> Spent:
    """The bound that holds for shuffled batches, where an example joins one batch an epoch.

    Given the permutations, which do not depend on the examples, an example's gradient is in one
    noisy sum an epoch: so many adaptively composed Gaussian mechanisms, and they are together one
    of noise_multiplier / sqrt(epochs) (Dong, Roth and Su 2022, corollary 3.3). Its epsilon is
    exact (Balle and Wang 2018, theorem 8). No amplification by the shuffle is claimed: none as
    strong as that of Poisson sampling holds (Chua et al. 2024, "How Private are DP-SGD
    Implementations?" and "Scalable DP-SGD: Shuffling vs. Poisson Subsampling").
    Neighbours: one example's gradient is replaced by zero.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm; 0 gives infinity.
        epochs: Whole ones, at least 1.
        delta: In (0, 1).
        if_poisson: Passed on: what the same number of Poisson batches would have spent.
    """
    epsilon = math.inf
    if noise_multiplier > 0:
        epsilon = _gaussian_epsilon(math.sqrt(epochs) / noise_multiplier, delta)
    return Spent(epsilon=epsilon, accountant="gaussian", epsilon_if_poisson=if_poisson)


def spent_by(trial: Trial, *, sample_rate: float, steps: int, epochs: int) -> Spent:
    """What the private trial has spent after so many steps, by the bound for its sampling.

    Args:
        trial: Private; names the sampling, the noise and delta.
        sample_rate: Probability with which an example joins a Poisson batch.
        steps: Taken so far.
        epochs: Whole ones that the steps make up.
    """
    assert trial.noise_multiplier is not None
    assert trial.delta is not None
    poisson = spent(
        noise_multiplier=trial.noise_multiplier,
        sample_rate=sample_rate,
        steps=steps,
        delta=trial.delta,
    )
    if trial.sampling == "poisson":
        return poisson
    return spent_shuffled(
        noise_multiplier=trial.noise_multiplier,
        epochs=epochs,
        delta=trial.delta,
        if_poisson=poisson.epsilon,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training run's mechanism, as `spent` takes it."""

    noise_multiplier: float
    sample_rate: float
    steps: int


def epsilon_of_best(runs: Collection[Run], *, delta: float) -> float:
    """Epsilon of publishing only the best of several runs, where their number is random.

    A fixed number of runs, as a sweep makes, has no bound this good. This one is for a number whose
    mean is that of the runs given, each with settings drawn at random from theirs: the lower of the
    bounds for a Poisson and for a geometric number (Papernot and Steinke 2022, "Hyperparameter
    Tuning with Renyi Differential Privacy", theorems 6 and 2 with eta = 1). It protects the
    examples trained on; the best is chosen by a look at others, which it does not protect.

    Args:
        runs: At least one. The bound is that of the least private of them. What is chosen by its
            mean over several seeds is one run, of all their steps.
        delta: In (0, 1).
    """
    mean = len(runs)
    orders = np.array(RDP_ORDERS)
    one = np.max([_rdp_curve(*astuple(run)) for run in set(runs)], axis=0)  # [orders]
    # delta of one run at epsilon log(1 + 1 / (order - 1)), for each order
    at = np.log1p(1 / (orders - 1))[:, None]
    log_deltas = (
        (orders - 1) * (one - at)
        - np.log(orders)
        + (orders - 1) * np.log1p(-1 / orders)  # Canonne, Kamath and Steinke 2020, proposition 12
    )
    poisson = one + mean * np.exp(np.minimum(log_deltas.min(axis=1), 0.0))
    geometric = one + 2 * np.min((1 - 1 / orders) * one + math.log(mean) / orders)
    found = []
    for bound in (poisson, geometric):
        with _expected_warnings():
            epsilon, _ = _rdp_analysis().get_privacy_spent(
                orders=orders, rdp=bound + math.log(mean) / (orders - 1), delta=delta
            )
        found.append(float(epsilon))
    return max(0.0, min(found))


def noise_multiplier_for(
    *,
    target_epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    shuffled_epochs: int | None = None,
) -> float:
    """The least noise multiplier, rounded up to four decimals, that spends at most the target.

    Solved with the primary accountant: `spent(...).epsilon` at the result is <= target_epsilon, or
    `spent_shuffled(...).epsilon` where the number of shuffled epochs is given.

    Raises:
        BadInput: No noise multiplier from 0.1 to 10,000 spends about that much.
    """
    from scipy.optimize import brentq

    by_prv = shuffled_epochs is None and delta >= PRV_LEAST_DELTA
    if by_prv and target_epsilon <= PRV_EPSILON_ERROR:
        raise BadInput(
            f"Expected target_epsilon={target_epsilon:g} > {PRV_EPSILON_ERROR:g}, the margin that "
            "the PRV accountant adds."
        )

    @cache
    def excess(noise_multiplier: float) -> float:
        if shuffled_epochs is not None:
            return _gaussian_epsilon(math.sqrt(shuffled_epochs) / noise_multiplier, delta) - (
                target_epsilon
            )
        at = spent(
            noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta
        )
        return at.epsilon - target_epsilon

    low = high = 1.0
    while excess(high) > 0:
        low, high = high, 2 * high
        if high > MOST_SOLVED_NOISE:
            raise BadInput(
                f"Expected target_epsilon={target_epsilon:g} to be one that noise can reach: noise "
                f"multiplier {low:,.0f} still spends {excess(low) + target_epsilon:.2g}."
            )
    while excess(low) <= 0:
        low, high = low / 2, low
        if low < LEAST_SOLVED_NOISE:
            raise BadInput(
                f"Expected target_epsilon={target_epsilon:g} to be at most "
                f"{excess(high) + target_epsilon:.3g}, what noise multiplier {high:g} spends; "
                "for less noise than that give --noise-multiplier."
            )
    scale: int = 10**NOISE_DIGITS
    ticks = math.ceil(float(brentq(excess, low, high, xtol=0.1 / scale)) * scale)
    while excess(ticks / scale) > 0:
        ticks += 1
    return ticks / scale


def _gaussian_epsilon(mu: float, delta: float) -> float:
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


_History = list[tuple[float, float, int]]


@cache
def _rdp_curve(noise_multiplier: float, sample_rate: float, steps: int) -> Any:
    """Renyi divergences at RDP_ORDERS, float64 [orders]."""
    return _rdp_of_a_step(noise_multiplier, sample_rate) * steps


@cache
def _rdp_of_a_step(noise_multiplier: float, sample_rate: float) -> Any:
    """Renyi divergences at RDP_ORDERS, float64 [orders]: slow, and the same for every epoch."""
    with _expected_warnings():
        return np.asarray(
            _rdp_analysis().compute_rdp(
                q=sample_rate,
                noise_multiplier=noise_multiplier,
                steps=1,
                orders=list(RDP_ORDERS),
            )
        )


def _rdp_analysis() -> Any:
    """Opacus' Renyi bounds."""
    return _opacus_accountants().rdp.privacy_analysis


def _rdp(history: _History, delta: float, orders: tuple[float, ...] = RDP_ORDERS) -> float:
    """Epsilon by Renyi divergences, over these orders, with which RDP_ORDERS begin."""
    curve = sum(_rdp_curve(*run) for run in history)
    with _expected_warnings():
        epsilon, _ = _rdp_analysis().get_privacy_spent(
            orders=list(orders), rdp=curve[: len(orders)], delta=delta
        )
    return max(0.0, float(epsilon))


def _prv(history: _History, delta: float) -> tuple[float | None, str | None]:
    """(epsilon, None), or (None, why there is none)."""
    if delta < PRV_LEAST_DELTA:
        return None, f"prv: not exact enough for delta below {PRV_LEAST_DELTA:g}"
    points = _prv_points(history, delta)
    if not points <= PRV_MAX_POINTS:
        return None, f"prv: would need {points:.1e} points"
    accountant = _prv_class()()
    accountant.history = history
    try:
        with _expected_warnings():
            epsilon = float(accountant.get_epsilon(delta, eps_error=PRV_EPSILON_ERROR))
    except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        return None, f"prv: {error or type(error).__name__}"
    if not math.isfinite(epsilon):
        return None, f"prv: gave {epsilon}"
    return max(0.0, epsilon), None


def _prv_points(history: _History, delta: float) -> float:
    """Size of the grid on which PRV discretises the privacy loss."""
    errors = PRV_EPSILON_ERROR, delta / 1000
    return 2 * _prv_half_width(history, *errors) / _prv_mesh(history, *errors)


def _prv_half_width(history: _History, eps_error: float, delta_error: float) -> float:
    """The privacy loss beyond which PRV looks no further (Gopi et al. 2021, remark 5.6).

    Over Opacus' own orders, so that its epsilon stays what it is.
    """
    steps = sum(count for _, _, count in history)
    tails = [_rdp(history, delta_error / 4, _ORDERS_OF_OPACUS)]
    tails += [
        _rdp([(noise, rate, 1)], delta_error / (8 * steps), _ORDERS_OF_OPACUS)
        for noise, rate, _ in history
    ]
    return max(*tails, eps_error) + 3


def _prv_mesh(history: _History, eps_error: float, delta_error: float) -> float:
    """Distance between the points of PRV's grid (Gopi et al. 2021, remark 5.6)."""
    steps = sum(count for _, _, count in history)
    return eps_error / math.sqrt(steps * math.log(12 / delta_error) / 2)


@cache
def _prv_class() -> Any:
    """Opacus' PRV accountant, less the divergences that it would compute again for every epoch."""
    accountants = _opacus_accountants()

    class Prv(accountants.PRVAccountant):  # type: ignore[misc,name-defined]
        def _get_domain(
            self, prvs: Any, num_self_compositions: Any, eps_error: float, delta_error: float
        ) -> Any:
            half = _prv_half_width(self.history, eps_error, delta_error)
            mesh = _prv_mesh(self.history, eps_error, delta_error)
            return accountants.prv.Domain.create_aligned(-half, half, mesh)

    return Prv


def _gdp(history: _History, delta: float) -> tuple[float | None, str | None]:
    """(epsilon, None), or (None, why there is none)."""
    try:
        with _expected_warnings():
            accountant = _opacus_accountants().GaussianAccountant()
            accountant.history = history
            epsilon = float(accountant.get_epsilon(delta))
    except (ArithmeticError, RuntimeError, ValueError):
        return None, "gdp: found no epsilon from 0 to 500"
    if not math.isfinite(epsilon):
        return None, f"gdp: gave {epsilon}"
    return max(0.0, epsilon), None


@contextmanager
def _expected_warnings() -> Iterator[None]:
    """Leaves out the accountants' warnings that the result or this module's docstrings tell."""
    with warnings.catch_warnings():
        # the best order is at an end of the range: the bound holds, it is only not the tightest
        warnings.filterwarnings("ignore", message="Optimal order is the")
        warnings.filterwarnings("ignore", message="GDP accounting is experimental")
        warnings.simplefilter("ignore", RuntimeWarning)  # an overflow shows in the result
        yield


@cache
def _opacus_accountants() -> Any:
    """The module `opacus.accountants`, without torch where torch is not imported yet.

    Opacus' accountants are numpy and scipy; they meet torch only through the package around them
    and one type annotation. For the time of the import, both get empty stand-ins, and nothing of
    it stays in `sys.modules`, so that a later `import opacus` is the whole of it.
    """
    if "opacus" in sys.modules:
        return importlib.import_module("opacus.accountants")
    spec = importlib.util.find_spec("opacus")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("opacus is not installed")
    package = types.ModuleType("opacus")
    package.__path__ = list(spec.submodule_search_locations)
    optimizers: Any = types.ModuleType("opacus.optimizers")
    optimizers.DPOptimizer = object
    sys.modules |= {"opacus": package, "opacus.optimizers": optimizers}
    try:
        return importlib.import_module("opacus.accountants")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "opacus"]:
            del sys.modules[name]
