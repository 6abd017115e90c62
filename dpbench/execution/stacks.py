"""Trials -> stacks of trials that can be trained at once as one model."""

import math
from collections.abc import Sequence

from dpbench import engines, optimizers, user_code
from dpbench.trial import Trial

AUTO_ON_GPU = 64  # trials of the tutorial's model keep one GPU busy, and fit its memory many times

Stack = tuple[Trial, ...]


def key(trial: Trial) -> tuple[object, ...]:
    """Equal for trials of the same batches, model, initial weights, optimizer and clipping rule."""
    return (
        trial.dataset,
        trial.model,
        trial.validation_examples,
        trial.sampling,
        trial.batch_size,
        trial.epochs,
        trial.seed,
        trial.optimizer,
        trial.clipping,
    )


def stackable(trial: Trial) -> bool:
    """Whether the trial may be trained at once with others of its key.

    The same mathematics is computed by another program, so only where engine and optimizer allow
    it. Trials with fresh noise draw batches of their own. Users' models and losses are trained one
    at a time.
    """
    return (
        engines.spec(trial.engine).stackable
        and not user_code.is_reference(trial.model)
        and trial.loss is None
        and optimizers.spec(trial.optimizer).stackable
        and trial.noise_source is None
    )


def stacks(trials: Sequence[Trial], most: int, places: int = 1) -> list[Stack]:
    """The trials in stacks of at most so many, each where its first trial stood.

    Args:
        trials: In the order in which they are to start.
        most: Trials in a stack.
        places: Stacks that run at a time: none is so large that others have nothing to do.
    """
    most = min(most, math.ceil(len(trials) / max(1, places)))
    together: dict[object, list[Trial]] = {}
    for trial in trials:
        own = key(trial) if stackable(trial) else trial
        together.setdefault(own, []).append(trial)
    return (
        [
            tuple(same[start : start + most])
            for same in together.values()
            for start in range(0, len(same), most)
        ]
        if most > 1
        else [(trial,) for trial in trials]
    )
