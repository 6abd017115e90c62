"""How long trials will take, by the rates in a store or else by nominal rates. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpbench import datasets, engines, models, store
from dpbench.trial import DEFAULT_MODEL, Trial

START_SECONDS = 10.0  # imports in the driver and its workers, and the report
TIMING_SECONDS = 13.0 / 6  # of each engine and batch size, in one process


def examples(trial: Trial) -> int:
    """Expected number of examples that the trial draws."""
    steps = datasets.steps_per_epoch(
        trial.dataset, trial.batch_size, trial.validation_examples or 0
    )
    return trial.epochs * steps * trial.batch_size


def measured_rates(
    out: Path, *, device: str = "cpu", stacked: bool = False
) -> dict[tuple[str, str], float]:
    """Examples per second of one worker by engine and model, the median of the store's trials.

    Of stacked trials that is the throughput of the stack.

    Args:
        out: The store.
        device: What trials will run on; what ran on another kind of device is left out.
        stacked: Whether they will be stacked; of an engine that has run both ways, those that ran
            in this way count.
    """
    columns = ["engine", "model", "epoch", "examples_seen", "train_seconds", "examples_per_second"]
    columns += ["implementation", "stacked_trials", "device"]
    found = store.load(out, "trials", columns)
    if not found.num_rows:  # a new store needs no pandas, and its workers start the sooner
        return {}
    rows = found.to_pandas().dropna(subset="examples_per_second")
    rows = rows[rows["device"].str.startswith(device.partition(":")[0], na=False)]
    # rows of an older dpbench lack the column; a stack's trials share their time
    together = ["epoch", "examples_seen", "train_seconds"]
    alike = rows.groupby(together)["engine"].transform("size")
    unsaid = alike.where(rows["implementation"] == "stacked", 1)
    trials = rows["stacked_trials"].fillna(unsaid).astype(float)
    rows = rows.assign(rate=rows["examples_per_second"] * trials, wanted=(trials > 1) == stacked)
    by = ["engine", "model"]
    best = rows.groupby(by)["wanted"].transform("max")
    rates = rows[rows["wanted"] == best].groupby(by)["rate"].median()
    return {(engine, model): float(rate) for (engine, model), rate in rates.items()}


def training_seconds(trial: Trial, measured: Mapping[tuple[str, str], float]) -> float:
    """Wall time of the trial's steps on one thread; of a stacked trial its share of the stack's.

    Args:
        trial: What will be trained.
        measured: Examples per second of one worker by engine and model, where a store knows them.
    """
    rate = measured.get((trial.engine, trial.model))
    if rate is None:
        rate = engines.spec(trial.engine).examples_per_second / _relative_cost(trial)
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
    timing_processes: int,
    measured: Mapping[tuple[str, str], float],
) -> float:
    """Wall time of the trials on so many workers, and of timings in so many processes after them.

    0 where there are neither.
    """
    if not trials and not timing_processes:
        return 0.0
    training = sum(training_seconds(trial, measured) for trial in trials)
    return START_SECONDS + training / workers + timing_processes * TIMING_SECONDS
