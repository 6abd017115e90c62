"""How long trials will take, by what a store has measured or else by a guess. No torch."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from dpbench import datasets, models
from dpbench.trial import DEFAULT_MODEL, EngineName, Trial

# Examples of the tutorial's CNN per second of one thread, below those timed alone in the committed
# results/mnist-quick, since trials run beside others; a test holds them within a factor of two.
NOMINAL_EXAMPLES_PER_SECOND: Mapping[EngineName, float] = MappingProxyType(
    {
        "non-private": 18_000.0,
        "fused-non-private": 40_000.0,
        "fused": 40_000.0,
        "bookkeeping": 15_000.0,
        "opacus-hooks": 5_500.0,
        "opacus-functorch": 6_000.0,
        "opacus-ew": 5_500.0,
        "opacus-ghost": 5_500.0,
    }
)
START_SECONDS = 10.0  # imports in the driver and its workers, and the report
TIMING_SECONDS = 13.0  # of each engine and batch size, in all its processes


def examples(trial: Trial) -> int:
    """Expected number of examples that the trial draws."""
    steps = datasets.steps_per_epoch(
        trial.dataset, trial.batch_size, trial.validation_examples or 0
    )
    return trial.epochs * steps * trial.batch_size


def training_seconds(trial: Trial, measured: Mapping[tuple[str, str], float]) -> float:
    """Wall time of the trial's steps on one thread; of a stacked trial its share of the stack's.

    Args:
        trial: What will be trained.
        measured: Examples per second of one worker by engine and model, where a store knows them.
    """
    rate = measured.get((trial.engine, trial.model))
    if rate is None:
        rate = NOMINAL_EXAMPLES_PER_SECOND[trial.engine] / _relative_cost(trial)
    return examples(trial) / rate


def _relative_cost(trial: Trial) -> float:
    """The multiply-adds of the trial's model over those of the tutorial's CNN; 1 if unknown."""
    data, model = datasets.spec(trial.dataset), models.spec(trial.model)
    reference = models.spec(DEFAULT_MODEL).multiply_adds
    if model.multiply_adds is None or reference is None:
        return 1.0
    own = model.multiply_adds(data.input_shape, data.classes)
    return own / reference((1, 28, 28), 10)


def sweep_seconds(
    trials: Sequence[Trial],
    *,
    workers: int,
    timings: int,
    measured: Mapping[tuple[str, str], float],
) -> float:
    """Wall time of the trials on so many workers, and of so many timings after them.

    0 where there are neither.
    """
    if not trials and not timings:
        return 0.0
    training = sum(training_seconds(trial, measured) for trial in trials)
    return START_SECONDS + training / workers + timings * TIMING_SECONDS
