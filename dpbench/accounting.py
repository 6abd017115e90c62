"""(noise_multiplier, sample_rate, steps, delta) -> epsilon, and back.

The mechanism is the Poisson-subsampled Gaussian, composed over steps: every example joins a batch
independently with probability sample_rate; neighbours differ by adding or removing one example.
The numbers come from Opacus' accountants, which need no torch; importing the opacus package does,
so here its accountants are imported without it (`_opacus_accountants`).
"""

import importlib
import importlib.util
import math
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from dpbench.trial import BadInput

# Opacus' own orders, and four larger ones, without which the bound is loose below epsilon 0.4.
RDP_ORDERS = (
    *(1 + tenth / 10 for tenth in range(1, 100)),
    *(float(order) for order in range(12, 64)),
    *(128.0, 256.0, 512.0, 1024.0),
)
PRV_EPSILON_ERROR = 0.01  # Opacus' default: the PRV epsilon is an upper end, this far above
PRV_MAX_POINTS = 2**22  # of its discretised privacy loss: some seconds; beyond, epsilon is > 40
NOISE_DIGITS = 4  # a solved noise multiplier is rounded up to so many decimals
LEAST_SOLVED_NOISE, MOST_SOLVED_NOISE = 0.1, 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What some steps have spent.

    Attributes:
        epsilon: The primary one, by `accountant`.
        accountant: `prv`, or `rdp` where PRV gave no number.
        epsilon_prv: Privacy loss random variables (Gopi et al. 2021); None where it failed.
        epsilon_rdp: Renyi differential privacy (Mironov 2017; Mironov et al. 2019).
        epsilon_gdp: Gaussian differential privacy (Bu et al. 2020), by a central limit theorem:
            no bound, it can be too low. None where it has no solution.
        note: Why an accountant gave no number.
    """

    epsilon: float
    accountant: str
    epsilon_prv: float | None
    epsilon_rdp: float
    epsilon_gdp: float | None
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


def noise_multiplier_for(
    *, target_epsilon: float, sample_rate: float, steps: int, delta: float
) -> float:
    """The least noise multiplier, rounded up to four decimals, that spends at most the target.

    Solved with the primary accountant: `spent(...).epsilon` at the result is <= target_epsilon.

    Raises:
        BadInput: No noise multiplier from 0.1 to 10,000 spends about that much.
    """
    from scipy.optimize import brentq

    if target_epsilon <= PRV_EPSILON_ERROR:
        raise BadInput(
            f"Expected target_epsilon={target_epsilon:g} > {PRV_EPSILON_ERROR:g}, the margin that "
            "the PRV accountant adds."
        )

    @cache
    def excess(noise_multiplier: float) -> float:
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


_History = list[tuple[float, float, int]]


def _rdp(history: _History, delta: float) -> float:
    accountant = _opacus_accountants().RDPAccountant()
    accountant.history = history
    with _expected_warnings():
        return float(accountant.get_epsilon(delta, alphas=list(RDP_ORDERS)))


def _prv(history: _History, delta: float) -> tuple[float | None, str | None]:
    """(epsilon, None), or (None, why there is none)."""
    points = _prv_points(history, delta)
    if not points <= PRV_MAX_POINTS:
        return None, f"prv: would need {points:.1e} points"
    accountant = _opacus_accountants().PRVAccountant()
    accountant.history = history
    try:
        with _expected_warnings():
            epsilon = float(accountant.get_epsilon(delta, eps_error=PRV_EPSILON_ERROR))
    except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        return None, f"prv: {error or type(error).__name__}"
    if not math.isfinite(epsilon) or epsilon < 0:
        return None, f"prv: gave {epsilon}"
    return epsilon, None


def _prv_points(history: _History, delta: float) -> float:
    """Size of the grid on which PRV discretises the privacy loss (Gopi et al. 2021, remark 5.6)."""
    steps = sum(count for _, _, count in history)
    delta_error = delta / 1000
    domain = 2 * (_rdp(history, delta_error / 4) + 3)
    mesh = PRV_EPSILON_ERROR / math.sqrt(steps * math.log(12 / delta_error) / 2)
    return domain / mesh


def _gdp(history: _History, delta: float) -> tuple[float | None, str | None]:
    """(epsilon, None), or (None, why there is none)."""
    try:
        with _expected_warnings():
            accountant = _opacus_accountants().GaussianAccountant()
            accountant.history = history
            epsilon = float(accountant.get_epsilon(delta))
    except (ArithmeticError, RuntimeError, ValueError):
        return None, "gdp: found no epsilon from 0 to 500"
    return (epsilon, None) if math.isfinite(epsilon) else (None, f"gdp: gave {epsilon}")


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
