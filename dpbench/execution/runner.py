"""Trials to workers, and their rows back as each trial ends."""

import importlib.util
import logging
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from dpbench import models
from dpbench.errors import BadInput, TrainingError
from dpbench.execution import stacks
from dpbench.execution.schedule import Claims, Lost, Row, Schedule, Unclaimed
from dpbench.execution.stacks import Stack
from dpbench.execution.timing_passes import Part, passes
from dpbench.processes.worker_pool import Crew
from dpbench.trial import Environment, Epoch, Status, TimedName, Trial, Workload

TIMED_PROCESSES = 6  # of each timing: the range of six medians is an interval of 96.9 %
TIMED_PAIRS = 3  # in each process
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_ON_A_GPU = {"fused": "bookkeeping", "fused-non-private": "non-private"}  # as engines choose there
_log = logging.getLogger(__name__)
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")  # as torch says it


def usual_physical_batch_size(device: str) -> int:
    """Bounds memory: per-example gradients of 27 MB on a CPU, where larger parts are no faster.

    A GPU, which they keep busier, gets 213 MB of them.
    """
    return 256 if device == "cpu" else 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How trials are run: what cannot change their results but by rounding.

    Attributes:
        data_root: Where the dataset's files are.
        devices: `cpu`, or CUDA devices over which trials are spread.
        jobs: Trials at a time on each device.
        threads: PyTorch's intra-operator threads of each.
        physical_batch_size: Most examples in one forward pass; None for whole batches.
        trial_timeout_seconds: For each trial; None for as long as it takes.
        others: Trials that may run on this machine beside these.
        stack: Most trials that are trained at once as one model.
    """

    data_root: Path
    devices: tuple[str, ...]
    jobs: int
    threads: int
    physical_batch_size: int | None
    trial_timeout_seconds: float | None = None
    others: int = 0
    stack: int = 1

    @property
    def count(self) -> int:
        """Trials at a time, on all devices together."""
        return self.jobs * len(self.devices)


class Place(Protocol):
    """Where a sweep runs: here, or on a cluster."""

    @property
    def device(self) -> str:
        """What timings are measured on."""

    @property
    def places(self) -> int:
        """Trials, or stacks of them, at a time."""

    def busy_cores(self, left: int) -> int:
        """Cores of this machine that trials keep busy while so many are not ended."""

    def __str__(self) -> str:
        """How many trials at a time, and where; for a reader."""

    def run(self, trials: Sequence[Trial], claims: Claims) -> Generator[list[Row]]:
        """The rows of each trial as it ends; what `run` of this module says of them holds."""

    def conditions(self) -> Mapping[str, object]:
        """What a timing is recorded with, of each of TIMED_UNDER."""

    def time_engines(
        self, engines: Sequence[TimedName], workload: Workload
    ) -> Generator[list[Row]]:
        """Times each engine in TIMED_PROCESSES processes, while no trial of this sweep runs.

        Yields the rows of one engine in one process at a time. What fails is one row that says why,
        and the engine's last.
        """


@dataclass(frozen=True, slots=True)
class Here:
    """Processes of this machine."""

    workers: Workers

    @property
    def device(self) -> str:
        """The first one."""
        return self.workers.devices[0]

    @property
    def places(self) -> int:
        """As `Place.places`."""
        return self.workers.count

    def busy_cores(self, left: int) -> int:
        """As `Place.busy_cores`."""
        return min(left, self.workers.count) * self.workers.threads

    def __str__(self) -> str:
        return f"{self.workers.count} at a time, on {', '.join(self.workers.devices)}"

    def run(self, trials: Sequence[Trial], claims: Claims) -> Generator[list[Row]]:
        """As `Place.run`."""
        return run(trials, self.workers, claims)

    def conditions(self) -> Mapping[str, object]:
        """As `Place.conditions`."""
        return conditions(self.workers)

    def time_engines(
        self, engines: Sequence[TimedName], workload: Workload
    ) -> Generator[list[Row]]:
        """As `Place.time_engines`."""
        return time_engines(engines, workload, self.workers)


def run(
    trials: Sequence[Trial], workers: Workers, claims: Claims | None = None
) -> Generator[list[Row]]:
    """Runs the trials; yields the rows of each as it ends, in no fixed order.

    A trial that fails yields the rows of its whole epochs and one that says why. A trial whose
    process dies is tried once more, alone, after the others. No process is left when the iterator
    is closed.

    Args:
        trials: What to run.
        workers: How.
        claims: Says which of them other sweeps run. A trial is given back once the rows that this
            yields have been taken care of: when the next are asked for.
    """
    if not trials:
        return
    _compile(workers)
    with crew(workers) as hands:
        yield from run_by(hands, trials, workers, claims)


def crew(workers: Workers) -> Crew:
    """Processes that are to run trials; those that the context's end leaves are ended."""
    threads = dict.fromkeys(_THREAD_VARIABLES, str(workers.threads))
    return Crew(partial(_prepare, _needs_kernel(workers)), _task, threads | _large_pages())


def _large_pages() -> dict[str, str]:
    """Variables for large pages where Linux lets them: of PyTorch's large blocks, and of malloc."""
    tunables = filter(None, (os.environ.get("GLIBC_TUNABLES"), "glibc.malloc.hugetlb=1"))
    return {"THP_MEM_ALLOC_ENABLE": "1", "GLIBC_TUNABLES": ":".join(tunables)}


def run_by(
    hands: Crew,
    trials: Sequence[Trial],
    workers: Workers,
    claims: Claims | None = None,
    given_up: Callable[[], bool] | None = None,
) -> Iterator[list[Row]]:
    """`run` by a crew that may have run others before, until its work is given up."""

    def task(trials: Stack, slot: int, beside: int) -> tuple[Stack, Workers, int]:
        device = workers.devices[slot % len(workers.devices)]
        return trials, replace(workers, devices=(device,)), beside + workers.others

    def row_of(lost: Lost) -> Row:
        return lost_row(lost, workers)

    jobs = stacks.stacks(trials, workers.stack, places=workers.count)
    return Schedule(
        jobs,
        hands,
        claims or Unclaimed(),
        task=task,
        row_of=row_of,
        timeout_seconds=workers.trial_timeout_seconds,
        given_up=given_up,
    ).run(min(workers.count, len(jobs)))


def run_trial(trial: Trial, workers: Workers, *, beside: int) -> Iterator[Row]:
    """The trial's rows as its epochs end, trained in this process on the first of the devices.

    Never raises for what the trial does: its last row says what went wrong.
    """
    import torch

    from dpbench import store
    from dpbench.datasets import loading
    from dpbench.training import loop

    (device,) = workers.devices
    torch.set_num_threads(workers.threads)
    where = _unseen(trial.engine, trial.dataset, trial.model, workers, beside=beside)
    done = 0
    try:
        where = _where(trial.engine, trial.dataset, trial.model, workers, beside=beside)
        where = replace(where, stacked_trials=1)
        data = loading.load(
            trial.dataset, workers.data_root, device, trial.validation_examples or 0
        )
        for epoch in loop.train(trial, data, physical_batch_size=workers.physical_batch_size):
            yield store.trial_row(trial, _with_prv(trial, epoch), where)
            done += 1
    except Exception as error:  # whatever it is, it is this trial's result
        yield store.trial_row(trial, _failure(done + 1, error), where)


def run_stack(trials: Stack, workers: Workers, *, beside: int) -> list[Row]:
    """The rows of trials that are trained at once; as `run_trial` says of each.

    Where they cannot be, for memory or whatever, each is run alone.
    """
    import torch

    from dpbench import store
    from dpbench.datasets import loading
    from dpbench.training import loop

    (device,) = workers.devices
    first = trials[0]
    torch.set_num_threads(workers.threads)
    rows: list[Row] = []
    try:
        where = replace(
            _where(first.engine, first.dataset, first.model, workers, beside=beside),
            implementation="stacked",
            memory_format="contiguous",
            stacked_trials=len(trials),
        )
        data = loading.load(
            first.dataset, workers.data_root, device, first.validation_examples or 0
        )
        ended: set[str] = set()
        for whole in loop.train_stack(
            trials, data, physical_batch_size=workers.physical_batch_size
        ):
            for trial, seen in zip(trials, whole, strict=True):
                if trial.trial_id in ended:
                    continue
                if isinstance(seen, TrainingError):
                    ended.add(trial.trial_id)
                    done = sum(row["trial_id"] == trial.trial_id for row in rows)
                    seen = _failure(done + 1, seen)  # noqa: PLW2901
                rows.append(store.trial_row(trial, _with_prv(trial, seen), where))
    except Exception as error:  # whatever it is, alone they may do without it, or say whose it is
        _log.warning(
            "%d trials could not be trained at once, and are run one by one: %s: %s",
            len(trials),
            type(error).__name__,
            error,
        )
        rows = [row for trial in trials for row in run_trial(trial, workers, beside=beside)]
    return rows


def _task(trials: Stack, workers: Workers, beside: int) -> Iterator[Row]:
    if len(trials) > 1:
        return iter(run_stack(trials, workers, beside=beside))
    return run_trial(trials[0], workers, beside=beside)


def _with_prv(trial: Trial, seen: Epoch) -> Epoch:
    """The last epoch of a private trial with what Opacus would say of it; others as they are.

    A process that trains has torch, which Opacus needs; what dpbench itself says of a row is
    computed in the driver.
    """
    if trial.sampling != "poisson" or seen.epoch != trial.epochs or seen.status != "ok":
        return seen
    if trial.noise_multiplier is None or trial.delta is None or seen.sample_rate is None:
        return seen
    from dpbench.privacy import prv

    assert seen.steps is not None
    epsilon, note = prv.epsilon(
        noise_multiplier=trial.noise_multiplier,
        sample_rate=seen.sample_rate,
        steps=seen.steps,
        delta=trial.delta,
    )
    return replace(seen, epsilon_prv=epsilon, epsilon_note=note)


def _prepare(kernel: bool) -> None:
    """Imports and loads what trials need, before the first one's time runs."""
    from dpbench import store  # noqa: F401
    from dpbench.datasets import loading  # noqa: F401
    from dpbench.engines import fused
    from dpbench.training import loop  # noqa: F401

    if kernel:
        fused.compile_kernel()


def _failure(epoch: int, error: Exception) -> Epoch:
    """What is recorded of a trial that has raised."""
    known = isinstance(error, TrainingError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    memory = isinstance(error, MemoryError) or any(each in text for each in _OUT_OF_MEMORY)
    status: Status = "out-of-memory" if memory and not known else "failed"
    return Epoch(
        epoch=epoch,
        status=status,
        reason=text,
        traceback=_without_folders("".join(traceback.format_exception(error))),
    )


def lost_row(lost: Lost, workers: Workers) -> Row:
    """The row of a trial that could not say itself how it ended, made wherever it ran."""
    from dpbench import store

    seen = Epoch(
        epoch=lost.epochs + 1,
        status=lost.status,
        reason=lost.reason,
        traceback=lost.stack and _without_folders(lost.stack),
    )
    trial = lost.trial
    where = _unseen(trial.engine, trial.dataset, trial.model, workers, beside=lost.beside)
    return store.trial_row(lost.trial, seen, where)


def _without_folders(text: str) -> str:
    """The traceback with file names relative to their packages' folders: rows are published."""
    folders = {*sysconfig.get_paths().values(), str(Path(__file__).parents[2])}
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(f'"{folder}/', '"')
    return text


def time_engines(
    engines: Sequence[TimedName],
    workload: Workload,
    workers: Workers,
    *,
    processes: int = TIMED_PROCESSES,
    pairs: int = TIMED_PAIRS,
) -> Generator[list[Row]]:
    """Times each engine in so many fresh processes, on the first of the workers' devices.

    Yields the rows of one engine in one process at a time: all engines in the first process, then
    all in the second, and so on. The step's memory is measured once, after the pairs of the first
    process. What fails is one row that says why, and the engine's last.

    Raises:
        BadInput: The dataset cannot be read.
    """
    _compile(workers)
    shared: dict[str, Row] = {}  # engine -> what all its rows have in common
    given_up: set[int] = set()
    tasks = [(engine, workload, workers, pairs) for engine in engines]
    with Crew(partial(_prepare, _needs_kernel(workers)), _timing_task, environment={}) as hands:
        for part in passes(tasks, hands, processes, given_up):
            engine = engines[part.task]
            rows = _timed(part, engine, workload, workers)
            if rows[0]["status"] == "ok":
                common = {name: rows[0][name] for name in ("started_at", "peak_memory_bytes")}
                yield [row | shared.setdefault(engine, common) for row in rows]
            else:
                given_up.add(part.task)
                yield rows


def _timing_task(process: int, *task: Any) -> Iterator[list[Row] | BadInput]:
    """What a process sends of one timing."""
    try:
        yield time_engine(*task, process=process)
    except BadInput as error:
        yield error


def _timed(part: Part, engine: TimedName, workload: Workload, workers: Workers) -> list[Row]:
    """The rows of an engine in one process, with the step's memory in those of the first one."""
    of = (engine, workload, workers)
    if part.died is not None:
        reason = f"the process that timed it died: {part.died}"
        return [_failed_timing(*of, Epoch(epoch=0, status="crashed", reason=reason))]
    (rows,) = part.items
    if isinstance(rows, BadInput):
        raise rows
    if part.process or rows[0]["status"] != "ok" or workers.devices[0] != "cpu":
        return list(rows)
    from dpbench.measurement import memory  # the process that has timed it waits meanwhile

    try:
        held = memory.resident_growth(
            engine,
            workload,
            threads=workers.threads,
            physical_batch_size=workers.physical_batch_size,
        )
    except Exception as error:  # whatever it is, it is this timing's result
        return [_failed_timing(*of, _failure(0, error))]
    return [row | {"peak_memory_bytes": held} for row in rows]


def time_engine(
    engine: TimedName,
    workload: Workload,
    workers: Workers,
    pairs: int,
    *,
    process: int,
) -> list[Row]:
    """The rows of one timing in this process, which is the one of that number.

    On a GPU, the first one measures the step's memory after it. What raises is one row that says
    why.

    Raises:
        BadInput: The dataset cannot be read.
    """
    import torch

    from dpbench import store
    from dpbench.datasets import loading
    from dpbench.measurement import memory, step_timing

    torch.set_num_threads(workers.threads)
    device = workers.devices[0]
    physical = workers.physical_batch_size
    data = loading.load(workload.dataset, workers.data_root, device)
    held = None
    try:
        where = _where(engine, workload.dataset, workload.model, workers, beside=0)
        timings = step_timing.measure(
            engine,
            workload,
            data,
            pairs=pairs,
            physical_batch_size=physical,
        )
        if device != "cpu" and process == 0:
            held = memory.allocated_growth(engine, workload, device, physical_batch_size=physical)
    except Exception as error:  # whatever it is, it is this timing's result
        return [_failed_timing(engine, workload, workers, _failure(0, error))]
    return [
        store.timing_row(replace(each, process=process, peak_memory_bytes=held), where)
        for each in timings
    ]


def _failed_timing(engine: TimedName, workload: Workload, workers: Workers, seen: Epoch) -> Row:
    """The row that says why."""
    from dpbench import store

    return store.failed_timing_row(
        _unseen(engine, workload.dataset, workload.model, workers, beside=0),
        dataset=workload.dataset,
        model=workload.model,
        engine=engine,
        batch_size=workload.batch_size,
        status=seen.status,
        reason=str(seen.reason),
    )


def conditions(workers: Workers) -> dict[str, str | int | None]:
    """What a timing on the first of the devices is recorded with, of each of TIMED_UNDER."""
    from dpbench.measurement import environment

    return environment.conditions(
        device=workers.devices[0],
        threads=workers.threads,
        physical_batch_size=workers.physical_batch_size,
    )


def _compile(workers: Workers) -> None:
    """Compiles what workers will need, once; they load it from the machine's cache."""
    if _needs_kernel(workers) and not _compiled():
        from dpbench.engines import fused

        fused.compile_kernel()


def _compiled() -> bool:
    """Whether numba's cache beside the kernel's source is newer than that.

    Asked without importing anything. False where the cache is elsewhere, or not known.
    """
    if "NUMBA_CACHE_DIR" in os.environ or importlib.util.find_spec("numba") is None:
        return False
    folder = Path(__file__).parents[1] / "engines" / "fused"
    python = f"py{sys.version_info.major}{sys.version_info.minor}"  # as numba names its files
    cached = [
        list((folder / "__pycache__").glob(f"kernel.{name}-*.{python}.nbi"))
        for name in ("clipped_sum", "plain_sum", "fill_logits")
    ]
    if not all(cached):
        return False
    oldest = min(max(path.stat().st_mtime for path in paths) for paths in cached)
    return oldest > (folder / "kernel.py").stat().st_mtime


def _needs_kernel(workers: Workers) -> bool:
    return "cpu" in workers.devices  # evaluation is by it, whatever the engine


def _unseen(
    engine: TimedName, dataset: str, model: str, workers: Workers, *, beside: int
) -> Environment:
    """As `_where`, without a look at a GPU, which this machine need not have or may have lost.

    Of a model that cannot be built it says what holds for the tutorial's.
    """
    device = workers.devices[0]
    try:
        models.refuse(model, dataset)
    except BadInput:
        dataset, model = "mnist", "tutorial-cnn"
    if device == "cpu":
        return _where(engine, dataset, model, workers, beside=beside)
    on_cpu = _where(engine, dataset, model, replace(workers, devices=("cpu",)), beside=beside)
    return replace(
        on_cpu,
        implementation=_ON_A_GPU.get(engine, engine),
        device=device,
        device_name=None,
        memory_format="contiguous",
    )


def _where(
    engine: TimedName, dataset: str, model: str, workers: Workers, *, beside: int
) -> Environment:
    from dpbench import engines
    from dpbench.measurement import environment

    device = workers.devices[0]
    match engine:
        case "tutorial-non-private" | "opacus-as-shipped":
            implementation, memory_format = str(engine), "contiguous"
        case _:
            implementation = engines.implementation(
                engine, models.build(model, dataset, seed=0, device=device)
            )
            memory_format = engines.memory_format(implementation, device)
    return environment.describe(
        implementation=implementation,
        device=device,
        threads=workers.threads,
        memory_format=memory_format,
        physical_batch_size=workers.physical_batch_size,
        workers_beside=beside,
    )
