"""Trials to workers, and their rows back as each trial ends."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from dpbench.trial import EngineName, Environment, Epoch, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How trials are run: what cannot change their results but by rounding.

    Attributes:
        data_root: Where the dataset's files are.
        devices: `cpu`, or CUDA devices over which trials are spread.
        jobs: Trials at a time on each device.
        threads: PyTorch's intra-operator threads of each.
        physical_batch_size: Most examples in one forward pass; None for whole batches.
    """

    data_root: Path
    devices: tuple[str, ...]
    jobs: int
    threads: int
    physical_batch_size: int | None

    @property
    def count(self) -> int:
        """Trials at a time, on all devices together."""
        return self.jobs * len(self.devices)


def run(trials: Sequence[Trial], workers: Workers) -> Iterator[list[dict[str, Any]]]:
    """Runs the trials; yields the rows of each as it ends, in no fixed order.

    A trial that fails yields the rows of its whole epochs and one of status `failed`.
    """
    count = min(workers.count, len(trials))
    if count == 0:
        return
    _compile(trials, workers)
    parallel = Parallel(n_jobs=count, return_as="generator_unordered", batch_size=1)
    with warnings.catch_warnings():
        # loky replaces a worker whose memory has grown, and says so; nothing is lost by it
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
        yield from parallel(
            delayed(run_trial)(trial, replace(workers, devices=(device,)), beside=count - 1)
            for trial, device in zip(trials, cycle(workers.devices), strict=False)
        )


def run_trial(trial: Trial, workers: Workers, *, beside: int) -> list[dict[str, Any]]:
    """The trial's rows, trained in this process on the first of the workers' devices.

    Never raises for what the trial does: a worker's exception would end the sweep.
    """
    import torch

    from dpbench import data, store, train

    (device,) = workers.devices
    torch.set_num_threads(workers.threads)
    where = _where(trial.engine, workers, beside=beside)
    seen: list[Epoch] = []
    try:
        dataset = data.load(trial.dataset, workers.data_root, device)
        for epoch in train.train(trial, dataset, physical_batch_size=workers.physical_batch_size):
            seen.append(epoch)  # one by one: the epochs before a failure count
    except Exception as error:  # whatever it is, it is this trial's result
        name = "" if isinstance(error, train.TrainingError) else f"{type(error).__name__}: "
        seen.append(Epoch(epoch=len(seen) + 1, status="failed", reason=f"{name}{error}"))
    return [store.trial_row(trial, epoch, where) for epoch in seen]


def time_engine(
    engine: EngineName, batch_size: int, dataset: str, workers: Workers
) -> list[dict[str, Any]]:
    """The rows of one timing, measured in this process on the first of the workers' devices."""
    import torch

    from dpbench import data, store, timing

    torch.set_num_threads(workers.threads)
    device = workers.devices[0]
    timings = timing.measure(
        engine,
        batch_size,
        data.load(dataset, workers.data_root, device),
        physical_batch_size=workers.physical_batch_size,
    )
    where = _where(engine, workers, beside=0)
    return [store.timing_row(each, where) for each in timings]


def _compile(trials: Sequence[Trial], workers: Workers) -> None:
    """Compiles what workers will need, once; they load it from the machine's cache."""
    if "cpu" in workers.devices and any(trial.engine.startswith("fused") for trial in trials):
        from dpbench.engines import fused

        fused.compile_kernel()


def _where(engine: EngineName, workers: Workers, *, beside: int) -> Environment:
    from dpbench import engines, environment, models

    device = workers.devices[0]
    implementation = engines.implementation(engine, models.tutorial_cnn(seed=0, device=device))
    return environment.describe(
        implementation=implementation,
        device=device,
        threads=workers.threads,
        memory_format=engines.memory_format(implementation, device),
        physical_batch_size=workers.physical_batch_size,
        workers_beside=beside,
    )
