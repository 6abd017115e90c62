"""Bounds on the noise of a run, from the part of its noisy sums that no canary reaches.

A step of DP-SGD releases G^T z + noise, with z the memberships of its batch and G the clipped
gradients of all examples that may be in it. The auditor knows G, but not z. Where G has rank m,
the projection R of the sum onto the complement of G's rows is noise alone, in parameters - m
dimensions, whatever z is.

All bounds here assume that a step is the clipped sum and Gaussian noise, of one standard
deviation in every parameter, drawn independently of everything before it. Whatever else is in R,
such as rounding, adds to its square, and so can only make the noise look larger.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, chi2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Residuals:
    """Of one run.

    Attributes:
        vectors: R of the first steps, in units of the clipping norm, float32 [kept, parameters].
        squares: The sum of |R|^2 over all steps.
        dimensions: Of the space that R lies in, at each step, or fewer; at least 1. With fewer
            the bounds below hold, but are looser.
        steps: All of the run's.
    """

    vectors: NDArray[np.float32]
    squares: float
    dimensions: int
    steps: int


def noise_bound(runs: Sequence[Residuals], *, confidence: float) -> float:
    """An upper bound on the noise multiplier; infinite where the residuals are not finite.

    The squares over noise^2 are chi-square, with the dimensions of all steps. That is exact though
    the gradients of a step depend on the noise of those before, for given these |R|^2 has the same
    distribution. Where the steps' noise differs, this bounds its root mean square, about.
    """
    squares = sum(run.squares for run in runs)
    if not math.isfinite(squares):
        return math.inf
    degrees = sum(run.dimensions * run.steps for run in runs)
    return math.sqrt(squares / float(chi2.ppf(1 - confidence, degrees)))


def dependence(runs: Sequence[Residuals]) -> tuple[float, float]:
    """The largest correlation of two steps' noise, and how probable one as large is if none is.

    Over all pairs of steps kept, of one run or of two, so that noise drawn once and used again is
    found wherever it is used again. Given the earlier of two independent vectors, the squared
    cosine between them is Beta(1/2, (dimensions - 1)/2). The two need not lie in the same space:
    the product with R is that with the other's projection, which is not longer than the other.
    Every pair may err (Bonferroni), whatever the dependence between pairs.

    Returns:
        (correlation, p_value); (0, 1) where there are no two steps or a residual is not finite.
    """
    vectors = np.concatenate([run.vectors for run in runs])
    norms = np.linalg.norm(vectors, axis=1)
    vectors, norms = vectors[norms > 0], norms[norms > 0]
    if len(vectors) < 2 or not np.isfinite(norms).all():
        return 0.0, 1.0
    vectors = vectors / norms[:, None]
    cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), k=1)]
    largest = min(1.0, float(np.abs(cosines).max()))
    dimensions = min(run.dimensions for run in runs)
    if dimensions < 2:
        return largest, 1.0
    one = float(beta.sf(largest**2, 0.5, (dimensions - 1) / 2))
    return largest, min(1.0, len(cosines) * one)
