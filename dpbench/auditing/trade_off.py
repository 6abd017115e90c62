"""(noise_multiplier, sample_rate, steps) -> the whole privacy curve, as bounds for an auditor.

The mechanism is that of `accounting`: the Poisson-subsampled Gaussian, composed over steps, with
neighbours that differ by adding or removing one example. An accountant answers one delta; an audit
by trade-off function needs every (epsilon, delta) at once, in both directions, and never less
privacy loss than there is. So the privacy loss is discretised upwards here and composed by Fourier
transform (Koskela, Jalkoe and Honkela 2020; Doroshenko et al. 2022, the "pessimistic" estimate).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import logsumexp, ndtr

_Array = NDArray[np.float64]

ROUNDING = 0.01  # the most that a composed privacy loss is rounded up
TAIL = 1e-10  # the most of the composed loss' mass beyond its grid; counted as infinite loss
FINEST, COARSEST = 2**22, 2**13  # numbers of points of a grid
CURVE_POINTS = 4_096  # of a grid's epsilons, what the curve keeps, at the default rounding
MOST_EXPONENT = 700.0  # e to this is a float64, and e to 710 is not


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Upper bounds on delta at a grid of epsilons, valid in both directions of add and remove.

    Attributes:
        epsilons: Increasing, from 0.
        deltas: Not below the true delta at the epsilon of the same index.
        rounding: At an epsilon less by this, the true delta is not below that of the same index,
            but for `TAIL`.
    """

    epsilons: _Array
    deltas: _Array
    rounding: float

    def least_other(self, probability: float) -> float:
        """What an event of this probability has at least on any neighbouring dataset.

        f(1 - probability) of the mechanism's trade-off function f (Dong, Roth and Su 2022,
        proposition 2.12: f is the supremum of the lines of its (epsilon, delta) pairs). A grid of
        pairs gives less lines, so this is never too large.
        """
        epsilons, deltas = self.epsilons[self._finite], self.deltas[self._finite]
        first = np.exp(-epsilons) * (probability - deltas)
        second = 1 - deltas - np.exp(epsilons) * (1 - probability)
        return max(0.0, float(first.max()), float(second.max()))

    @property
    def _finite(self) -> slice:
        """The points whose e^epsilon is finite; the other lines overflow float64."""
        return slice(int(np.searchsorted(self.epsilons, MOST_EXPONENT)))

    def epsilon(self, delta: float) -> float:
        """A lower bound on the mechanism's epsilon at delta, within `rounding` and a grid step."""
        above = np.flatnonzero(self.deltas > delta + TAIL)
        if not len(above):
            return 0.0
        return max(0.0, float(self.epsilons[above[-1]]) - self.rounding)


@lru_cache(maxsize=256)
def curve(
    *, noise_multiplier: float, sample_rate: float, steps: int, rounding: float = ROUNDING
) -> Curve:
    """The privacy curve of `steps` steps.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm, above 0.
        sample_rate: In (0, 1].
        steps: At least 1.
        rounding: About the most that the composed privacy loss is rounded up.
    """
    widest = 1.0
    while _tail(widest, noise_multiplier, sample_rate, steps) > TAIL:
        widest *= 1.5
    points = 2 ** math.ceil(math.log2(2 * widest * steps / rounding))
    points = min(FINEST, max(COARSEST, points))
    mesh = 2 * widest / points
    losses = (np.arange(points) - points // 2) * mesh
    deltas = np.zeros(points // 2)
    for direction in _DIRECTIONS:
        step, _ = _masses(losses, direction, noise_multiplier, sample_rate)
        composed = np.fft.irfft(np.fft.rfft(step) ** steps, points)
        composed = np.roll(composed, -(steps - 1) * (points // 2)).clip(min=0)
        deltas = np.maximum(deltas, _delta(losses[points // 2 :], composed[points // 2 :]))
    deltas += TAIL
    most = round(CURVE_POINTS * ROUNDING / rounding)
    kept = np.linspace(0, points // 2 - 1, min(most, points // 2)).astype(int)
    return Curve(
        epsilons=losses[points // 2 :][kept],
        deltas=deltas[kept].clip(max=1),
        rounding=float(mesh * (steps + kept[1] - kept[0])),
    )


_Direction = Literal["remove", "add"]
_DIRECTIONS: tuple[_Direction, ...] = ("remove", "add")


def _masses(
    losses: _Array, direction: _Direction, noise: float, rate: float
) -> tuple[_Array, float]:
    """One step's privacy loss rounded up: the mass at each of the losses, and that beyond them.

    With the example, an output along its gradient is (1 - rate) N(0, noise^2) + rate N(1, noise^2);
    without it N(0, noise^2). The log ratio of the two increases with the output.
    """
    signed = losses if direction == "remove" else -losses
    # The output whose log ratio is `signed`: of log((e^signed - 1 + rate) / rate), by the share
    # log((1 - rate) / e^signed) that the other part of the mixture has. No output has a log ratio
    # at or below log(1 - rate).
    others = (math.log1p(-rate) if rate < 1 else -math.inf) - signed
    some = others < 0
    output = np.full(losses.shape, -np.inf)
    inner = np.log(-np.expm1(others[some]))
    output[some] = noise**2 * (signed[some] + inner - math.log(rate)) + 0.5
    if direction == "remove":
        below, above = (
            (1 - rate) * ndtr(sign * output / noise) + rate * ndtr(sign * (output - 1) / noise)
            for sign in (1, -1)
        )
    else:
        below, above = ndtr(-output / noise), ndtr(output / noise)
    # differences of the smaller of the two, so that small masses keep their digits
    masses = np.diff(below, prepend=0.0)
    masses = np.where(below < 0.5, masses, -np.diff(above, prepend=1.0))
    return masses, float(above[-1])


def _tail(widest: float, noise: float, rate: float, steps: int) -> float:
    """A bound on the mass of the composed loss beyond `widest`, on either side (Chernoff)."""
    losses = np.linspace(-widest, widest, max(1_024, 32 * steps))  # so little is rounded up
    worst = 0.0
    for direction in _DIRECTIONS:
        masses, beyond = _masses(losses, direction, noise, rate)
        logs = np.full(masses.shape, -np.inf)
        np.log(masses, out=logs, where=masses > 0)
        for sign in (1, -1):
            bounds = [
                steps * float(logsumexp(sign * order * losses + logs)) - order * widest
                for order in np.geomspace(0.05, 50, 30)
            ]
            worst = max(worst, math.exp(min(0.0, *bounds)) + steps * beyond)
    return worst


def _delta(epsilons: _Array, masses: _Array) -> Any:
    """Delta at each epsilon: the sum over larger losses of mass x (1 - e^(epsilon - loss))."""
    shrink = math.exp(float(epsilons[0] - epsilons[1]))
    backwards = masses[::-1]
    larger = np.cumsum(backwards) - backwards
    # the same sum with each mass shrunk once more at each epsilon further down
    shrunk = lfilter([0.0, shrink], [1.0, -shrink], backwards)
    return (larger - shrunk)[::-1].clip(min=0)
