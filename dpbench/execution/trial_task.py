"""What a worker process does with a trial, or with a stack of them."""

import logging
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import engines
from dpbench.errors import BadInput, DatasetError, TrainingError
from dpbench.execution import provenance
from dpbench.execution.backend import Workers
from dpbench.execution.schedule import Row
from dpbench.execution.stacks import Stack
from dpbench.observations import Epoch, Status
from dpbench.trial import Trial

if TYPE_CHECKING:
    from dpbench.datasets import Data

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_log = logging.getLogger(__name__)


def variables(workers: Workers) -> dict[str, str]:
    """Environment variables of a worker: its threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(workers.threads))


def prepare(workers: Workers) -> None:
    """Imports and compiles what trials need, before the first one's time runs."""
    from dpbench import store  # noqa: F401
    from dpbench.datasets import loading  # noqa: F401
    from dpbench.training import loop  # noqa: F401

    if "cpu" in workers.devices:  # where every engine is evaluated by the kernel
        engines.prepare()


def run(trials: Stack, workers: Workers, concurrent: int) -> Iterator[Row]:
    """The rows of the trials; raises DatasetError."""
    workers.user.admit()
    if len(trials) > 1:
        return run_stack(trials, workers, concurrent=concurrent)
    return run_trial(trials[0], workers, concurrent=concurrent)


def run_trial(trial: Trial, workers: Workers, *, concurrent: int) -> Iterator[Row]:
    """The trial's rows as its epochs end, trained in this process on the first of the devices.

    If the trial fails, its last row says why.

    Raises:
        DatasetError: The dataset cannot be read.
    """
    import torch

    from dpbench import store
    from dpbench.training import loop

    torch.set_num_threads(workers.threads)
    where = provenance.without_gpu(trial, workers, concurrent=concurrent)
    done = 0
    try:
        where = replace(
            provenance.environment(trial, workers, concurrent=concurrent),
            stacked_trials=1,
        )
        data = _data(trial, workers)
        for epoch in loop.train(trial, data, physical_batch_size=workers.physical_batch_size):
            yield store.trial_row(trial, _with_prv(trial, epoch), where)
            done += 1
    except DatasetError:
        raise
    except Exception as error:  # of any kind: it is this trial's result
        yield store.trial_row(trial, failure(done + 1, error), where)


def run_stack(trials: Stack, workers: Workers, *, concurrent: int) -> Iterator[Row]:
    """The rows of trials that are trained at once, each as `run_trial` gives them.

    If that fails, for lack of memory or anything else, each is run alone, from its first epoch.
    """
    import torch

    torch.set_num_threads(workers.threads)
    try:
        yield from _stacked_rows(trials, workers, concurrent)
    except Exception as error:  # of any kind: alone, each trial may do, or say what is wrong
        _log.warning(
            "%d trials could not be trained at once, and are run one by one: %s: %s",
            len(trials),
            type(error).__name__,
            error,
        )
        for trial in trials:
            yield from run_trial(trial, workers, concurrent=concurrent)


def _stacked_rows(trials: Stack, workers: Workers, concurrent: int) -> Iterator[Row]:
    from dpbench import store
    from dpbench.training import loop

    first = trials[0]
    where = replace(
        provenance.environment(first, workers, concurrent=concurrent),
        implementation="stacked",
        memory_format="contiguous",
        stacked_trials=len(trials),
    )
    data = _data(first, workers)
    epochs = loop.train_stack(trials, data, physical_batch_size=workers.physical_batch_size)
    failed: set[str] = set()
    for number, epoch in enumerate(epochs, start=1):
        for trial, seen in zip(trials, epoch, strict=True):
            if trial.trial_id in failed:
                continue
            if isinstance(seen, TrainingError):
                failed.add(trial.trial_id)
                yield store.trial_row(trial, failure(number, seen), where)
            else:
                yield store.trial_row(trial, _with_prv(trial, seen), where)


def _data(trial: Trial, workers: Workers) -> "Data":
    from dpbench.datasets import loading

    (device,) = workers.devices
    try:
        return loading.load(
            trial.dataset, workers.data_root, device, trial.validation_examples or 0
        )
    except BadInput as error:
        raise DatasetError(str(error)) from error


def _with_prv(trial: Trial, seen: Epoch) -> Epoch:
    """The last epoch of a private trial with Opacus' own epsilon; other epochs unchanged.

    Opacus needs torch, which only the processes that train have loaded. dpbench's own accountants
    run in the driver.
    """
    if trial.sampling != "poisson" or seen.epoch != trial.epochs or seen.status != "ok":
        return seen
    if trial.noise_multiplier is None or trial.delta is None or seen.sample_rate is None:
        return seen
    from dpbench.privacy import prv_cache

    assert seen.steps is not None
    epsilon, note = prv_cache.epsilon(
        noise_multiplier=trial.noise_multiplier,
        sample_rate=seen.sample_rate,
        steps=seen.steps,
        delta=trial.delta,
    )
    return replace(seen, epsilon_prv=epsilon, epsilon_note=note)


def failure(epoch: int, error: Exception) -> Epoch:
    """What is recorded of a trial, or of a timing, that has raised."""
    known = isinstance(error, TrainingError)
    status: Status = "out-of-memory" if _is_out_of_memory(error) else "failed"
    return Epoch(
        epoch=epoch,
        status=status,
        reason=str(error) if known else f"{type(error).__name__}: {error}",
        traceback=_without_folders("".join(traceback.format_exception(error))),
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Whether the error says that memory is short.

    torch has a type for it only when its own allocator fails on a GPU. On a CPU, and in CUDA's
    libraries, it is a plain RuntimeError, which only its text tells from others.
    """
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def failed_row(trial: Trial, seen: Epoch, workers: Workers, *, concurrent: int) -> Row:
    """The row of a trial that its process could not send, made wherever the trial ran."""
    from dpbench import store

    where = provenance.without_gpu(trial, workers, concurrent=concurrent)
    stack = seen.traceback and _without_folders(seen.traceback)
    return store.trial_row(trial, replace(seen, traceback=stack), where)


def _without_folders(text: str) -> str:
    """The traceback with file names relative to their packages' folders: rows are published."""
    folders = {*sysconfig.get_paths().values(), str(Path(__file__).parents[2])}
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(f'"{folder}/', '"')
    return text
