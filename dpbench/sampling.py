"""Samplers that draw batches, and the tally of what they drew."""

from collections.abc import Iterator

import numpy as np
from scipy import special  # scipy.stats takes half a second to import

from dpbench.trial import Sampling

# A right sampler's count is this improbable once in a million million epochs.
IMPROBABLE = 1e-12


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
    """What a sampler drew, counted apart from it: what the accountant may be told.

    Attributes:
        steps: Batches.
        drawn: Examples in them all.

    Args:
        examples: N, of the training set.
    """

    def __init__(self, examples: int) -> None:
        self.steps = 0
        self.drawn = 0
        self._batches_of = np.zeros(examples, np.int64)  # [N]: batches that each example joined

    def count(self, batch: np.ndarray) -> None:
        """Counts a batch."""
        self.steps += 1
        self.drawn += len(batch)
        self._batches_of[batch] += 1  # once, even where the batch repeats an example

    def disagreement(self, sampling: Sampling, *, steps: int, epochs: int, rate: float) -> str:
        """Why these draws are not those of the sampling that was asked; empty where they are.

        Poisson batches are random: their number of examples is Binomial(steps x N, rate), and one
        further off than chance explains disagrees.

        Args:
            sampling: As of a `Trial`.
            steps: That were asked so far.
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
        chances, drawn = steps * len(self._batches_of), self.drawn
        # the tails of a binomial number, as incomplete beta functions
        at_most = special.betainc(chances - drawn, drawn + 1, 1 - rate) if drawn < chances else 1.0
        at_least = special.betainc(drawn, chances - drawn + 1, rate) if drawn else 1.0
        tail = min(at_most, at_least)
        if tail < IMPROBABLE:
            counted = self.drawn / (steps * len(self._batches_of))
            return f"the sampler drew at rate {counted:.6g}, not {rate:.6g}"
        return ""
