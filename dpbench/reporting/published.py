"""Results that others have published, of `published.toml`: the settings, and what they reached."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A result at the setting that its source gives.

    Attributes:
        name: As it stands beside its point.
        source: Where it was published.
        dataset: A name from `datasets.names`.
        model: The name from `models.names` of the same layers.
        examples: Of the training set.
        batch_size: As `Trial` has it, and so have the others of its names.
        steps: Of the whole training.
        accuracy: On the test set, in per cent; the mean where it is of several runs.
        deviation: Over the runs, in points; None where the source has none.
        runs: Their number; None where the source does not say.
        stated_epsilon: The source's; None without privacy.
        epsilon: Of these steps at `delta` by today's accountant, for Poisson batches.
        delta: Of both.
        preprocessing_noise: Of the statistics over all examples that were released before the first
            step, each with so much noise; part of the epsilons.
        differs: From a trial of the same setting here.
    """

    name: str
    source: str
    dataset: str
    model: str
    examples: int
    batch_size: int
    steps: int
    epochs: int
    learning_rate: float
    momentum: float = 0.0
    noise_multiplier: float | None = None
    max_grad_norm: float | None = None
    accuracy: float
    deviation: float | None = None
    runs: int | None = None
    stated_epsilon: float | None = None
    epsilon: float | None = None
    delta: float
    preprocessing_noise: tuple[float, ...] = ()
    differs: str

    @property
    def sample_rate(self) -> float:
        """Of Poisson batches of the same expected size."""
        return self.batch_size / self.examples


@cache
def results() -> Sequence[Published]:
    """All of the file, in its order."""
    text = resources.files("dpbench.reporting").joinpath("published.toml").read_text("utf-8")
    read = tomllib.loads(text)
    noise = "preprocessing_noise"
    return tuple(
        Published(**each | {noise: tuple(each.get(noise, ()))}, delta=read["delta"])
        for each in read["result"]
    )
