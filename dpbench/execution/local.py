"""Trials and timings in worker processes of this machine."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dpbench.errors import BadInput
from dpbench.execution import provenance, stacks, timing_task, trial_task
from dpbench.execution.backend import Workers
from dpbench.execution.schedule import Claims, Row, Schedule, Unclaimed
from dpbench.execution.stacks import Stack
from dpbench.observations import Epoch
from dpbench.processes.worker_pool import WorkerPool
from dpbench.trial import Trial, Workload


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """A `Backend` of this machine's processes."""

    workers: Workers

    @property
    def device(self) -> str:
        """The first one."""
        return self.workers.devices[0]

    @property
    def places(self) -> int:
        """As `Backend.places`."""
        return self.workers.count

    def __str__(self) -> str:
        return f"{self.workers.count} at a time, on {', '.join(self.workers.devices)}"

    def run(
        self, trials: Sequence[Trial], claims: Claims, on_row: Callable[[Row], None]
    ) -> Generator[list[Row]]:
        """As `Backend.run`."""
        return run(trials, self.workers, claims, on_row)

    def conditions(self) -> Mapping[str, object]:
        """As `Backend.conditions`."""
        return provenance.conditions(self.workers)

    def time_engines(self, engines: Sequence[str], workload: Workload) -> Generator[list[Row]]:
        """As `Backend.time_engines`."""
        return timing_task.time_engines(
            engines, workload, self.workers, processes=timing_task.processes_of(workload)
        )


def run(
    trials: Sequence[Trial],
    workers: Workers,
    claims: Claims | None = None,
    on_row: Callable[[Row], None] = lambda _: None,
) -> Generator[list[Row]]:
    """The rows of each trial as it ends: see `Backend.run`."""
    if trials:
        with worker_pool(workers) as pool:
            yield from run_in_pool(pool, trials, workers, claims=claims, on_row=on_row)


def worker_pool(workers: Workers) -> WorkerPool:
    """A pool for trials, without any worker yet."""
    return WorkerPool(
        partial(trial_task.prepare, workers), trial_task.run, trial_task.variables(workers)
    )


def run_in_pool(
    pool: WorkerPool,
    trials: Sequence[Trial],
    workers: Workers,
    *,
    claims: Claims | None = None,
    cancelled: Callable[[], bool] | None = None,
    on_refusal: Callable[[BadInput], None] = lambda _: None,
    on_row: Callable[[Row], None] = lambda _: None,
) -> Iterator[list[Row]]:
    """`run` in a pool whose workers may have run other trials before.

    Args:
        pool: Its workers are idle.
        trials: What to run.
        workers: How.
        claims: As of `Backend.run`.
        cancelled: As of `Schedule`.
        on_refusal: As of `Schedule`.
        on_row: As of `Schedule`.
    """

    def task(trials: Stack, slot: int, concurrent: int) -> tuple[Any, ...]:
        device = workers.devices[slot % len(workers.devices)]
        return trials, replace(workers, devices=(device,)), concurrent + workers.others

    def failed_row(trial: Trial, seen: Epoch, concurrent: int) -> Row:
        return trial_task.failed_row(trial, seen, workers, concurrent=concurrent)

    jobs = stacks.stacks(trials, workers.stack, places=workers.count)
    return Schedule(
        jobs,
        pool,
        claims or Unclaimed(),
        task=task,
        failed_row=failed_row,
        on_refusal=on_refusal,
        timeout_seconds=workers.trial_timeout_seconds,
        cancelled=cancelled,
        on_row=on_row,
    ).run(min(workers.count, len(jobs)))
