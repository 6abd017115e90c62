"""What an audit found: lower bounds on epsilon from the guesses and residuals of its runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from dpbench.auditing import one_run, residuals, trade_off
from dpbench.auditing.claim import Claim
from dpbench.auditing.one_run import Guesses
from dpbench.auditing.residuals import Residuals
from dpbench.privacy import accounting

SHARE = 0.002  # of the allowed error, for each statement about the noise: it costs them little
FINE = 0.001  # what the epsilon of the measured noise is rounded by, at most, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an audit found.

    Attributes:
        claimed: Epsilon of the accountant at the audit's delta.
        lower_bound: The largest of the three bounds below, which hold together, and with the test
            of independence, with the audit's confidence.
        noise_bound: Epsilon of DP-SGD with noise multiplier `measured_noise`. A bound on epsilon if
            each step is the clipped sum and Gaussian noise, alike in all parameters and steps and
            independent of all before.
        measured_noise: An upper bound on the noise multiplier, under the same assumption.
        family_bound: Epsilon of the least noise that is refuted by the trade-off function of the
            mechanism (Mahloujifar et al. 2024): if the step is the mechanism with some noise, its
            epsilon is larger. 0 where nothing is refuted. Where it exceeds the claim, the claimed
            mechanism's trade-off function is refuted for any step.
        any_bound: A bound on epsilon of any mechanism at all (Steinke et al. 2023).
        correlation: The largest, in absolute value, of two steps' noise.
        independent: Whether one so large may be chance.
        canaries: Of all runs.
        made: Guesses, in all runs.
        right: Of those.
    """

    claimed: float
    lower_bound: float
    noise_bound: float
    measured_noise: float
    family_bound: float
    any_bound: float
    correlation: float
    independent: bool
    canaries: int
    made: int
    right: int

    @property
    def consistent(self) -> bool:
        """Whether neither a bound nor the correlation refutes the claim."""
        return self.lower_bound <= self.claimed and self.independent

    @property
    def verdict(self) -> str:
        """The verdict as it is printed."""
        if self.lower_bound > self.claimed:
            return "NOT AS PRIVATE AS CLAIMED"
        return "consistent" if self.independent else "NOISE OF STEPS CORRELATED"


def judge(claim: Claim, guesses: Sequence[Guesses], noise_alone: Sequence[Residuals]) -> Finding:
    """The finding from the guesses and the residuals of all runs."""
    curve = partial(trade_off.curve, sample_rate=claim.sample_rate, steps=claim.steps)
    error = 1 - claim.confidence
    of_noise = 1 - SHARE * error
    of_guesses = 1 - (1 - 2 * SHARE) / 2 * error  # there are two of each

    measured = residuals.noise_bound(noise_alone, confidence=of_noise)
    # noise below this cannot be measured; more noise means a lower epsilon, so it is still a bound
    least = max(measured, claim.noise_multiplier / one_run.NOISE_SPAN)
    noise_bound = 0.0
    if math.isfinite(measured):
        noise_bound = curve(noise_multiplier=least, rounding=FINE).epsilon(claim.delta)
    correlation, p_value = residuals.dependence(noise_alone)

    refuted = one_run.noise_bound(
        guesses,
        lambda noise: curve(noise_multiplier=noise),
        claimed=claim.noise_multiplier,
        confidence=of_guesses,
    )
    family_bound = 0.0 if refuted is None else curve(noise_multiplier=refuted).epsilon(claim.delta)
    any_bound = one_run.epsilon_bound(guesses, delta=claim.delta, confidence=of_guesses)
    spent = accounting.spent(
        noise_multiplier=claim.noise_multiplier,
        sample_rate=claim.sample_rate,
        steps=claim.steps,
        delta=claim.delta,
    )
    return Finding(
        claimed=spent.epsilon,
        lower_bound=max(noise_bound, family_bound, any_bound),
        noise_bound=noise_bound,
        measured_noise=measured,
        family_bound=family_bound,
        any_bound=any_bound,
        correlation=correlation,
        independent=p_value > SHARE * error,
        canaries=sum(run.canaries for run in guesses),
        made=sum(run.made for run in guesses),
        right=sum(run.right for run in guesses),
    )
