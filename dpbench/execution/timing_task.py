"""Engines timed in several fresh processes, one after the other.

What differs between processes, such as the addresses of their memory, changes a step's speed by
more than repeating it within one of them shows.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from dpbench import engines, user_code
from dpbench.execution import provenance, trial_task
from dpbench.execution.backend import Workers
from dpbench.execution.schedule import Row
from dpbench.execution.user_work import NONE
from dpbench.observations import Epoch
from dpbench.processes.worker_pool import Death, WorkerPool
from dpbench.trial import TUTORIAL_ARMS, Trial, Workload

if TYPE_CHECKING:
    from dpbench.datasets import Data
    from dpbench.measurement import memory

TIMED_PROCESSES = 6  # of each timing: the range of six medians is an interval of 96.9 %
TIMED_PAIRS = 3  # in each process
USERS_PROCESSES = 2  # of a user's own task in a sweep, whose trials may take seconds


def processes_of(workload: Workload) -> int:
    """How many processes a sweep times an engine in; `dpbench timing` takes TIMED_PROCESSES."""
    return USERS_PROCESSES if workload.of_user else TIMED_PROCESSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """An engine to time, in each of several processes.

    Attributes:
        engine: How steps are computed.
        workload: What steps are timed on.
        workers: On the first of their devices.
        pairs: Of the engine and the non-private step, in each process.
    """

    engine: str
    workload: Workload
    workers: Workers
    pairs: int = TIMED_PAIRS


def time_engines(
    engines: Sequence[str],
    workload: Workload,
    workers: Workers,
    *,
    processes: int = TIMED_PROCESSES,
    pairs: int = TIMED_PAIRS,
) -> Generator[list[Row]]:
    """Times each engine in so many fresh processes, on the first of the workers' devices.

    Yields the rows of one engine in one process at a time: all engines in the first process, then
    all in the second, and so on. Between them the process waits. If it dies of an engine, another
    one goes on. The step's memory is measured once, in the first process or after it. A failure is
    one row that says why, and the engine's last.

    Raises:
        BadInput: The dataset cannot be read.
    """
    shared: dict[str, Row] = {}  # by engine: what all its rows have in common
    failed: set[str] = set()
    for process in range(processes):
        with WorkerPool(partial(trial_task.prepare, workers), _task, environment={}) as pool:
            for engine in engines:
                if engine in failed:
                    continue
                timing = Timing(
                    engine=engine,
                    workload=workload,
                    workers=workers,
                    pairs=pairs,
                )
                rows = _with_memory(pool.run(0, timing, process), timing, process)
                if rows[0]["status"] == "ok":
                    common = {name: rows[0][name] for name in ("started_at", "peak_memory_bytes")}
                    yield [row | shared.setdefault(engine, common) for row in rows]
                else:
                    failed.add(engine)
                    yield rows


def _task(timing: Timing, process: int) -> Iterator[Row]:
    """The rows of one timing in this process, which has that number.

    On a GPU, the first process measures the step's memory afterwards.

    Raises:
        BadInput: The dataset cannot be read.
    """
    import torch

    from dpbench import store
    from dpbench.datasets import loading
    from dpbench.measurement import memory, step_timing

    workers, asked = timing.workers, (timing.engine, timing.workload)
    workers.user.admit()
    device, physical = workers.devices[0], workers.physical_batch_size
    torch.set_num_threads(workers.threads)
    data = loading.load(timing.workload.dataset, workers.data_root, device)
    held = None
    try:
        where = provenance.environment(_asked(timing), workers, concurrent=0)
        measured = step_timing.measure(
            *asked, data, pairs=timing.pairs, physical_batch_size=physical
        )
        if device.startswith("cuda") and process == 0:
            held = memory.allocated_growth(
                *asked, device, physical_batch_size=physical, examples=_examples(timing)
            )
    except Exception as error:  # of any kind: it is this timing's result
        yield failed_row(timing, trial_task.failure(0, error))
        return
    for each in measured:
        yield store.timing_row(replace(each, process=process, peak_memory_bytes=held), where)


def _with_memory(sent: list[Row] | Death, timing: Timing, process: int) -> list[Row]:
    """The rows of an engine in one process, with the step's memory in those of the first one."""
    workers = timing.workers
    if isinstance(sent, Death):
        reason = f"the process that timed it died: {sent}"
        return [failed_row(timing, Epoch(epoch=0, status="crashed", reason=reason))]
    if process or sent[0]["status"] != "ok" or workers.devices[0] != "cpu":
        return sent
    from dpbench.measurement import memory  # the process that has timed it waits meanwhile

    try:
        held = memory.resident_growth(
            timing.engine,
            timing.workload,
            threads=workers.threads,
            physical_batch_size=workers.physical_batch_size,
            examples=_examples(timing),
        )
    except Exception as error:  # of any kind: it is this timing's result
        return [failed_row(timing, trial_task.failure(0, error))]
    return [row | {"peak_memory_bytes": held} for row in sent]


def _examples(timing: Timing) -> "memory.Examples | None":
    """What the step's memory is measured on: users' data, or None where all is built in."""
    if timing.workers.user == NONE:
        return None
    return partial(_users_examples, timing.workers, timing.workload.dataset)


def _users_examples(workers: Workers, dataset: str, count: int, device: str) -> "Data":
    """All examples of a user's dataset, or random ones, in a process that knows the user's code."""
    from dpbench.datasets import loading

    workers.user.admit()
    if user_code.is_reference(dataset):
        return loading.load(dataset, workers.data_root, device)
    return loading.random(dataset, count, device)


def _asked(timing: Timing) -> Trial | str:
    """The trial whose steps are timed; the name, of a tutorial's loop."""
    if timing.engine in TUTORIAL_ARMS:
        return timing.engine
    return engines.timing_trial(timing.engine, timing.workload)


def failed_row(timing: Timing, seen: Epoch) -> Row:
    """The row of a timing that failed."""
    from dpbench import store

    return store.failed_timing_row(
        provenance.without_gpu(_asked(timing), timing.workers, concurrent=0),
        timing.workload,
        engine=timing.engine,
        status=seen.status,
        reason=str(seen.reason),
    )
