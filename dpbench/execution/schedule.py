"""Which worker runs which trial, and what becomes of one whose worker dies or takes too long."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dpbench.errors import BadInput, PoolError
from dpbench.execution.stacks import Stack
from dpbench.observations import Epoch, Status
from dpbench.processes.worker import Kind
from dpbench.processes.worker_pool import Death, Event, WorkerPool
from dpbench.store.claims import Claim
from dpbench.trial import Trial

Row = dict[str, Any]

_POLL_SECONDS = 1.0  # between questions whether another sweep has ended a trial
_LONGEST_WAIT_SECONDS = 3600.0  # the system takes no number beyond a month
_STARTUP_FAILURES = 3  # in a row, after which no more workers are spawned


class Claims(Protocol):
    """Which trials other sweeps run meanwhile."""

    def take(self, trial: Trial) -> Claim:
        """Whether this sweep is to run it."""

    def release(self, trial: Trial) -> None:
        """Its rows are written."""


class Unclaimed:
    """Claims if there is no other sweep."""

    def take(self, _trial: Trial) -> Claim:
        """Every trial is this sweep's."""
        return Claim.MINE

    def release(self, _trial: Trial) -> None:
        """Nobody waits for it."""


@dataclass(slots=True, kw_only=True)
class _Run:
    trials: Stack
    concurrent: int
    alone: bool
    started: float
    oom_kills: int
    rows: list[Row] = field(default_factory=list)


def by_trial(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each trial, in order.

    A trial whose epochs begin anew was run again: what it sent before does not count.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        of_trial = found.setdefault(row["trial_id"], [])
        if of_trial and row["epoch"] <= of_trial[-1]["epoch"]:
            of_trial.clear()
        of_trial.append(row)
    return list(found.values())


class Schedule:
    """One run over some trials.

    Args:
        jobs: Stacks of trials, most of them of one, in the order in which they start.
        pool: Its workers are idle, if it has any.
        claims: Shared with other sweeps.
        task: The arguments of a worker's task, of trials, slot and the number of concurrent trials.
        failed_row: The row of a trial that its worker could not send: the trial, how it ended, and
            the number of concurrent trials.
        on_refusal: Called with a BadInput that a worker has raised instead of running its trials;
            it is recorded of each of them if that returns.
        timeout_seconds: For each trial; None for no limit. A stack that takes longer is run again
            trial by trial.
        cancelled: Polled every second; the iteration ends when it returns true.
        on_row: Called with each row as its epoch ends.
    """

    def __init__(
        self,
        jobs: Sequence[Stack],
        pool: WorkerPool,
        claims: Claims,
        *,
        task: Callable[[Stack, int, int], tuple[Any, ...]],
        failed_row: Callable[[Trial, Epoch, int], Row],
        on_refusal: Callable[[BadInput], None] = lambda _: None,
        timeout_seconds: float | None,
        cancelled: Callable[[], bool] | None = None,
        on_row: Callable[[Row], None] = lambda _: None,
    ) -> None:
        self._queue, self._pool, self._claims = deque(jobs), pool, claims
        self._claimed_elsewhere, self._crashed_once = deque[Trial](), deque[Trial]()
        self._task, self._failed_row, self._on_refusal = task, failed_row, on_refusal
        self._timeout_seconds, self._cancelled = timeout_seconds, cancelled
        self._on_row = on_row
        self._running: dict[int, _Run] = {}
        self._startup_failures = 0
        self._asked_at = time.monotonic()

    def run(self, workers: int) -> Iterator[list[Row]]:
        """The rows of each trial as it ends, on so many workers.

        Raises:
            PoolError: Workers cannot be started.
        """
        for slot in set(range(workers)) - self._pool.slots:
            self._pool.spawn(slot)
        while True:
            self._assign(workers)
            if not (self._running or self._waiting):
                return
            if self._cancelled is not None and self._cancelled():
                for slot in self._pool.slots - self._pool.idle:
                    self._pool.terminate(slot)
                return
            timeout_seconds = self._idle_seconds()
            while events := list(self._pool.events(timeout_seconds)):
                for event in events:
                    yield from self._handled(event)
                timeout_seconds = 0.0  # read all: a trial may have ended while the caller worked
            for slot in self._overdue():
                yield from self._stop(slot)

    @property
    def _waiting(self) -> bool:
        return bool(self._queue or self._claimed_elsewhere or self._crashed_once)

    def _assign(self, workers: int) -> None:
        """Gives work to idle workers; a trial that crashed once only if nothing else runs."""
        if self._claimed_elsewhere and time.monotonic() > self._asked_at + _POLL_SECONDS:
            self._queue.extend((trial,) for trial in self._claimed_elsewhere)
            self._claimed_elsewhere.clear()
            self._asked_at = time.monotonic()
        for slot in sorted(self._pool.idle):
            trials = self._next()
            if not trials:
                break
            self._start(slot, trials, concurrent=workers - 1, alone=False)
        if self._crashed_once and self._pool.idle and not (self._queue or self._running):
            slot = min(self._pool.idle)
            for other in self._pool.slots - {slot}:
                self._pool.terminate(other)
            self._start(slot, (self._crashed_once.popleft(),), concurrent=0, alone=True)

    def _next(self) -> Stack:
        """The next trials that this sweep is to run, claimed; empty if there are none."""
        while self._queue:
            mine = []
            for trial in self._queue.popleft():
                claim = self._claims.take(trial)
                if claim is Claim.MINE:
                    mine.append(trial)
                if claim is Claim.BUSY:
                    self._claimed_elsewhere.append(trial)
            if mine:
                return tuple(mine)
        return ()

    def _start(self, slot: int, trials: Stack, *, concurrent: int, alone: bool) -> None:
        self._running[slot] = _Run(
            trials=trials,
            concurrent=concurrent,
            alone=alone,
            started=time.monotonic(),
            oom_kills=_oom_kills(),
        )
        self._pool.submit(slot, *self._task(trials, slot, concurrent))

    def _idle_seconds(self) -> float | None:
        """For how long there is nothing to do but wait for an event."""
        polls = self._claimed_elsewhere or self._cancelled is not None
        waits = [_POLL_SECONDS] if polls else []
        if self._timeout_seconds is not None and self._running:
            first = min(run.started for run in self._running.values())
            left = first + self._timeout_seconds - time.monotonic()
            waits.append(min(max(0.0, left), _LONGEST_WAIT_SECONDS))
        return min(waits, default=None)

    def _handled(self, event: Event) -> Iterator[list[Row]]:
        """The rows of the trials that the event ends, if it does."""
        match event.kind:
            case Kind.READY:
                self._startup_failures = 0
            case Kind.ITEM:
                self._running[event.slot].rows.append(event.value)
                self._on_row(event.value)
            case Kind.DONE:
                yield from self._results(self._running.pop(event.slot))
            case Kind.REFUSED:
                self._on_refusal(event.value)
                reason = f"{type(event.value).__name__}: {event.value}"
                yield from self._failed(
                    self._running.pop(event.slot), "failed", reason, event.stack
                )
            case Kind.DIED:
                yield from self._on_death(event)

    def _on_death(self, event: Event) -> Iterator[list[Row]]:
        death: Death = event.value
        run = self._running.pop(event.slot, None)
        if run is None:
            self._startup_failures += 1
            if self._startup_failures >= _STARTUP_FAILURES:
                raise PoolError(_startup_failure(death))
        elif not run.alone:
            self._crashed_once.extend(run.trials)
        else:
            out_of_memory = death.by_sigkill and _oom_kills() > run.oom_kills
            status: Status = "out-of-memory" if out_of_memory else "crashed"
            memory = "; the kernel has killed for lack of memory meanwhile" if out_of_memory else ""
            reason = f"worker died, twice, the second time alone: {death}{memory}"
            yield from self._failed(run, status, reason, event.stack)
        if self._waiting:
            self._pool.spawn(event.slot)

    def _overdue(self) -> list[int]:
        if self._timeout_seconds is None:
            return []
        limit = time.monotonic() - self._timeout_seconds
        return [slot for slot, run in self._running.items() if run.started <= limit]

    def _stop(self, slot: int) -> Iterator[list[Row]]:
        """Terminates the worker of a trial that takes too long: it may be stuck."""
        run = self._running.pop(slot)
        stack = self._pool.stack(slot)
        self._pool.terminate(slot)
        if len(run.trials) > 1:
            self._claimed_elsewhere.extend(run.trials)  # to be claimed again, one by one
            for trial in run.trials:
                self._claims.release(trial)
        else:
            reason = f"took longer than --trial-timeout {self._timeout_seconds:g} s"
            yield from self._failed(run, "timeout", reason, stack)
        if self._waiting:
            self._pool.spawn(slot)

    def _failed(
        self, run: _Run, status: Status, reason: str, stack: str | None
    ) -> Iterator[list[Row]]:
        """The rows of each trial, with a last one that says why it ended."""
        for trial in run.trials:
            sent = [row["epoch"] for row in run.rows if row["trial_id"] == trial.trial_id]
            ended = sent[-1] if sent else 0
            seen = Epoch(epoch=ended + 1, status=status, reason=reason, traceback=stack)
            run.rows.append(self._failed_row(trial, seen, run.concurrent))
        yield from self._results(run)

    def _results(self, run: _Run) -> Iterator[list[Row]]:
        """The rows of each trial, which is released once the caller has written them."""
        known = {trial.trial_id: trial for trial in run.trials}
        for rows in by_trial(run.rows):
            yield rows
            self._claims.release(known[rows[0]["trial_id"]])


def _startup_failure(death: Death) -> str:
    remedy = (
        "is there memory for them? Fewer --jobs take less."
        if death.by_sigkill
        else "they say why above; python -c 'import dpbench.training.loop' may."
    )
    return f"Workers die before they can run a trial ({death}): {remedy}"


def _oom_kills() -> int:
    """Processes that this machine's kernel has killed for lack of memory; 0 if it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
