"""Samplers that draw batches, and checks of what they drew."""

from collections.abc import Iterator

import numpy as np
from scipy import special  # scipy.stats takes half a second to import

from dpbench.trial import Sampling

# The significance of the checks: a correct sampler fails in at most one of 10^12 epochs.
IMPROBABLE = 1e-12
_TESTS = 6  # share that: two tails each of the total, the examples' counts and the batch sizes
_TILTS = np.geomspace(1e-3, 1e4, 100)  # at which a tail is bounded; the least bound is taken


def batches(
    sampling: Sampling, *, examples: int, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Batches without end: indices below `examples`, int64 [B], B varying and maybe 0.

    An epoch is round(examples / batch_size) of them.

    Args:
        sampling: As of a `Trial`.
        examples: N, of the training set.
        batch_size: Expected size of a Poisson batch; about that of a shuffled one.
        rng: The only source of the draws.
    """
    if sampling == "poisson":
        return poisson_batches(examples=examples, sample_rate=batch_size / examples, rng=rng)
    return shuffled_batches(
        examples=examples, steps_per_epoch=round(examples / batch_size), rng=rng
    )


def poisson_batches(
    *, examples: int, sample_rate: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Every example joins every batch independently with probability `sample_rate`.

    A Poisson sample is a Binomial(examples, sample_rate) number of examples drawn without
    replacement, which costs the batch where a draw per example costs the dataset.
    """
    while True:
        size = rng.binomial(examples, sample_rate)
        yield rng.choice(examples, size, replace=False, shuffle=False)


def shuffled_batches(
    *, examples: int, steps_per_epoch: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Every example joins one batch an epoch: a fresh permutation, cut into even parts."""
    while True:
        yield from np.array_split(rng.permutation(examples), steps_per_epoch)


class Tally:
    """Counts what a sampler drew, independently of the sampler; the accountant relies on it.

    Of the matrix of memberships (examples x batches) it knows the row sums and the column sums, not
    which examples share a batch.

    Attributes:
        steps: Batches.
        drawn: Examples in them all.

    Args:
        examples: N, of the training set.
    """

    def __init__(self, examples: int) -> None:
        self.steps = 0
        self.drawn = 0
        self._sizes: list[int] = []  # [steps]: examples in each batch
        self._batches_of = np.zeros(examples, np.int64)  # [N]: batches that each example joined

    def count(self, batch: np.ndarray) -> None:
        """Counts a batch."""
        self.steps += 1
        self.drawn += len(batch)
        self._sizes.append(len(batch))
        self._batches_of[batch] += 1  # once, even where the batch repeats an example

    def disagreement(self, sampling: Sampling, *, steps: int, epochs: int, rate: float) -> str:
        """Why these draws are not those of the sampling; empty where they are.

        Shuffled batches are counted exactly. Poisson batches are random, with N x steps independent
        memberships of probability `rate`, so what is further off than chance explains disagrees:

        - the total, which is Binomial(N x steps, rate);
        - the dispersion (see `_dispersion_tails`) of the N examples' counts, each
          Binomial(steps, rate): too large where some are drawn more often than others, too small
          where they take turns, as in shuffled batches;
        - the dispersion of the batches' sizes, each Binomial(N, rate): too small where it is fixed.

        Args:
            sampling: As of a `Trial`.
            steps: That were to be drawn so far.
            epochs: That they make up.
            rate: The probability with which an example was to join a batch.
        """
        if self.steps != steps:
            return f"the sampler drew {self.steps} batches, not {steps}"
        repeats = self.drawn - int(self._batches_of.sum())
        if repeats:
            return f"the sampler drew {repeats} examples twice into one batch"
        if sampling == "shuffle":
            wrong = int((self._batches_of != epochs).sum())
            return f"{wrong} examples were not drawn once an epoch" if wrong else ""
        return self._unlike_poisson(rate)

    def _unlike_poisson(self, rate: float) -> str:
        steps, examples, drawn = self.steps, len(self._batches_of), self.drawn
        chances = steps * examples
        # the tails of a binomial number, as incomplete beta functions
        at_most = special.betainc(chances - drawn, drawn + 1, 1 - rate) if drawn < chances else 1.0
        at_least = special.betainc(drawn, chances - drawn + 1, rate) if drawn else 1.0
        if min(at_most, at_least) < IMPROBABLE / _TESTS:
            return f"the sampler drew at rate {drawn / chances:.6g}, not {rate:.6g}"
        even, uneven = _dispersion_tails(self._batches_of, steps, rate)
        if min(even, uneven) < IMPROBABLE / _TESTS:
            how = "evenly" if even < uneven else "unevenly"
            return f"the sampler drew the examples too {how} for Poisson batches"
        even, uneven = _dispersion_tails(np.array(self._sizes), examples, rate)
        if min(even, uneven) < IMPROBABLE / _TESTS:
            how = "alike" if even < uneven else "different"
            return f"the sampler drew batches of sizes too {how} for Poisson batches"
        return ""


def _dispersion_tails(counts: np.ndarray, trials: int, rate: float) -> tuple[float, float]:
    """Bounds on the probability of so small, and of so large, a dispersion of binomial counts.

    With m counts k_i, each Binomial(n, q), the dispersion is the sum of
    x(k_i) = (k_i - n q)^2 / (n q (1 - q)). It is about chi-square with m degrees of freedom, but
    not in the tails, which are heavier where n q is small. So they are bounded (Chernoff), for
    whatever n, q and m: with B the event that every k_i is in a set K, and D the dispersion seen,

        P(dispersion >= D) <= P(not B) + min over t > 0 of (sum over k in K of p(k) e^(t x(k)))^m
        e^(-t D),

    and with t < 0 the same for dispersion <= D. p is the binomial probability, and K is what is
    not so improbable that no epoch sees it: without it the sum would not be finite for large n.

    Args:
        counts: Of m independent binomials, [m].
        trials: n, of each.
        rate: q, in (0, 1].
    """
    if rate == 1:
        return 1.0, 1.0  # all are n, which the check of the total covers
    m, values = len(counts), np.arange(trials + 1)
    logs = (
        special.gammaln(trials + 1)
        - special.gammaln(values + 1)
        - special.gammaln(trials - values + 1)
        + values * np.log(rate)
        + (trials - values) * np.log1p(-rate)
    )
    kept = logs > np.log(IMPROBABLE * 1e-5 / m)
    outside = m * float(np.exp(logs[~kept]).sum())
    mean, variance = trials * rate, trials * rate * (1 - rate)
    squares = (values[kept] - mean) ** 2 / variance  # [K]
    seen = float(((counts - mean) ** 2).sum()) / variance

    def bound(tilts: np.ndarray) -> float:
        sums = special.logsumexp(logs[kept] + tilts[:, None] * squares, axis=1)  # [tilts]
        return outside + float(np.exp(min(0.0, (m * sums - tilts * seen).min())))

    return bound(-_TILTS), bound(_TILTS)
