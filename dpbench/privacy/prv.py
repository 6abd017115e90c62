"""Epsilon by Opacus' PRV accountant, the number that users of Opacus see.

Importing Opacus brings torch; only processes that train compute this.
"""

import math
import warnings
from functools import cache

from dpbench.privacy import accounting

EPSILON_ERROR = 0.01  # Opacus' default: its epsilon is an upper end, this far above its estimate
LEAST_DELTA = 1e-10  # below, its rounding shows, and it can be under the true epsilon
MOST_POINTS = 2**20  # of its discretised privacy loss: a second; beyond, epsilon is above 20


@cache
def epsilon(
    *, noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> tuple[float | None, str | None]:
    """(epsilon, None) as Opacus computes it, or (None, why it gives none).

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        sample_rate: In (0, 1].
        steps: At least 1.
        delta: In (0, 1).
    """
    if noise_multiplier == 0:
        return math.inf, None
    if delta < LEAST_DELTA:
        return None, f"prv: not exact enough for delta below {LEAST_DELTA:g}"
    points = _points(noise_multiplier, sample_rate, steps, delta)
    if not points <= MOST_POINTS:
        return None, f"prv: would need {points:.1e} points"
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    try:
        with warnings.catch_warnings():
            # the best order is at an end of the range: the bound holds, it is only not the tightest
            warnings.filterwarnings("ignore", message="Optimal order is the")
            warnings.simplefilter("ignore", RuntimeWarning)  # an overflow shows in the result
            found = float(accountant.get_epsilon(delta, eps_error=EPSILON_ERROR))
    except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        return None, f"prv: {error or type(error).__name__}"
    if not math.isfinite(found):
        return None, f"prv: gave {found}"
    return max(0.0, found), None


def _points(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """About the size of the grid on which it discretises the privacy loss.

    Gopi et al. 2021, remark 5.6, with Opacus' error bounds.
    """
    delta_error = delta / 1000
    half_width = 3 + max(
        accounting.rdp_bound(
            noise_multiplier=noise_multiplier,
            sample_rate=sample_rate,
            steps=count,
            delta=delta_error / share,
        )
        for count, share in ((steps, 4), (1, 8 * steps))
    )
    mesh = EPSILON_ERROR / math.sqrt(steps * math.log(12 / delta_error) / 2)
    return 2 * half_width / mesh
