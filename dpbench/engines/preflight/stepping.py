"""Holds what an engine adds up, read off steps without noise, against the examples' gradients."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpbench import clipping, engines
from dpbench.engines.preflight.gradients import (
    Reference,
    parameters_of,
    vector,
)
from dpbench.engines.preflight.task import SEED, Task, seeded
from dpbench.trial import Trial

# Of the steps, so that what a step adds to the weights is not rounded to the weights' precision
SCALE = 2.0**20
DIVISOR = 11  # the trial's batch_size, another than the number of examples


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """How an engine did on a batch.

    Attributes:
        error: Relative error of its clipped sum.
        batch: Which batch it was, as the end of a sentence; empty for that of all examples.
        raised: What it raised, if it did; the error is infinite then.
    """

    error: float
    batch: str = ""
    raised: Exception | None = None


def worst(trial: Trial, task: Task, reference: Reference) -> Outcome:
    """The outcome on the batch that the trial's engine does worst on.

    Batches are those that Poisson sampling may draw: of several, of one and of no example.

    Args:
        trial: Names the engine and the clipping rule.
        task: The examples.
        reference: Their gradients.
    """
    bound = binding(reference.rows.norm(dim=1))
    weighted = reference.rows
    if trial.private:
        factors = clipping.spec(trial.clipping).factors(weighted.norm(dim=1), bound)
        weighted = factors[:, None] * weighted
    batches = {"": slice(None), " on an empty batch": slice(0)}
    if trial.private and not reference.of_batch:
        batches[" on a batch of one"] = slice(1)
    outcomes, batch = [], ""
    try:
        steps = sums(trial, task, list(batches.values()), bound)
        for batch, of_examples in batches.items():
            expected = weighted[of_examples].sum(0)
            found = next(steps)
            size = float(expected.norm() or weighted.sum(0).norm() or 1)
            outcomes.append(Outcome(error=_finite(found - expected) / size, batch=batch))
    except Exception as error:  # of any kind, of an engine on a model that nobody has tested
        return Outcome(error=math.inf, batch=batch, raised=error)
    return max(outcomes, key=lambda each: each.error)


def binding(norms: Tensor) -> float:
    """A clipping bound that binds for some examples and not for others, where norms differ."""
    ordered = norms.sort().values
    middle = len(ordered) // 2
    below, above = float(ordered[max(middle - 1, 0)]), float(ordered[middle])
    return math.sqrt(below * above) or above / 2 or 1.0


def sums(trial: Trial, task: Task, batches: list[slice], max_grad_norm: float) -> Iterator[Tensor]:
    """The engine's clipped sum over each of the batches, float64 [P], from the same weights.

    Args:
        trial: As of `worst`.
        task: The examples.
        batches: Of them.
        max_grad_norm: Of a private engine.
    """
    asked = replace(
        trial,
        noise_multiplier=0.0 if trial.private else None,
        max_grad_norm=max_grad_norm if trial.private else None,
        optimizer="sgd",
        momentum=0.0,
        learning_rate=SCALE * DIVISOR,
        batch_size=DIVISOR,
    )
    model, device = task.model(), task.inputs.device
    trained = parameters_of(model)
    before = vector(list(trained))
    with warnings.catch_warnings(), seeded(device):
        warnings.simplefilter("ignore")  # libraries', on models that they may not know
        engine = engines.build(asked, model, noise=torch.Generator(device))
        for batch in batches:
            torch.manual_seed(SEED)
            engine.step(task.inputs[batch], task.targets[batch])
            yield (before - vector(list(trained))) / SCALE
            task.restore(model)


def _finite(error: Tensor) -> float:
    size = float(error.norm())
    return size if math.isfinite(size) else math.inf
