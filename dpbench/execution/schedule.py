"""Which worker runs which trial, and what becomes of one whose worker dies or takes too long."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dpbench.errors import BadInput
from dpbench.execution.stacks import Stack
from dpbench.processes.worker_pool import Crew, Event
from dpbench.store.claims import Claim
from dpbench.trial import Status, Trial

Row = dict[str, Any]

_POLL_SECONDS = 1.0  # between questions whether another sweep has ended a trial
_LONGEST_WAIT_SECONDS = 3600.0  # the system takes no number beyond a month
_STILLBORN = 3  # workers in a row that die before their first trial


class Claims(Protocol):
    """Which trials other sweeps run meanwhile."""

    def take(self, trial: Trial) -> Claim:
        """Whether this sweep is to run it."""

    def release(self, trial: Trial) -> None:
        """Its rows are written."""


class Unclaimed:
    """Claims where there is no other sweep."""

    def take(self, _trial: Trial) -> Claim:
        """Every trial is this sweep's."""
        return Claim.MINE

    def release(self, _trial: Trial) -> None:
        """Nobody waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A trial that could not say itself how it ended.

    Attributes:
        trial: Which.
        epochs: How many it has ended.
        beside: Trials that ran at the same time.
        status: `timeout`, `crashed` or `out-of-memory`.
        reason: For a reader.
        stack: Where it was, if that is known.
    """

    trial: Trial
    epochs: int
    beside: int
    status: Status
    reason: str
    stack: str | None


@dataclass(slots=True, kw_only=True)
class _Run:
    trials: Stack
    beside: int
    alone: bool
    started: float
    oom_kills: int
    rows: list[Row] = field(default_factory=list)


def by_trial(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each trial, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["trial_id"], []).append(row)
    return list(found.values())


class Schedule:
    """One run over some trials.

    Args:
        jobs: Stacks of trials, of one for most, in the order in which they start.
        crew: Its free workers are taken on; none may be busy.
        claims: Shared with other sweeps.
        task: What a worker is given, of trials, slot and the number of trials beside them.
        row_of: The row of a trial that was lost.
        timeout_seconds: For each trial; None for as long as it takes. A stack that takes longer is
            run again trial by trial.
        given_up: Asked every second whether nobody waits for the rows any more; None where that
            ends the iteration.
    """

    def __init__(
        self,
        jobs: Sequence[Stack],
        crew: Crew,
        claims: Claims,
        *,
        task: Callable[[Stack, int, int], tuple[Any, ...]],
        row_of: Callable[[Lost], Row],
        timeout_seconds: float | None,
        given_up: Callable[[], bool] | None = None,
    ) -> None:
        self._given_up = given_up
        self._queue, self._busy, self._suspects = deque(jobs), deque[Trial](), deque[Trial]()
        self._crew, self._claims = crew, claims
        self._task, self._row_of, self._timeout_seconds = task, row_of, timeout_seconds
        self._hired: set[int] = set(crew.free)
        self._idle: set[int] = set(crew.free)
        self._running: dict[int, _Run] = {}
        self._stillborn = 0
        self._asked_at = time.monotonic()

    def run(self, workers: int) -> Iterator[list[Row]]:
        """The rows of each trial as it ends, on so many workers.

        Raises:
            BadInput: Workers cannot be started.
        """
        self._hire([slot for slot in range(workers) if slot not in self._hired])
        while True:
            self._assign(workers)
            if not (self._running or self._waiting):
                return
            if self._given_up is not None and self._given_up():
                for slot in self._hired - self._idle:
                    self._dismiss(slot)
                return
            waits = self._patience_seconds()
            while events := list(self._crew.events(waits)):
                for event in events:
                    yield from self._ended(event)
                waits = 0.0  # until all is heard: a trial may have ended while we were busy
            for slot in self._overdue():
                yield from self._stop(slot)

    @property
    def _waiting(self) -> bool:
        return bool(self._queue or self._busy or self._suspects)

    def _hire(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._crew.hire(slot)
            self._hired.add(slot)

    def _dismiss(self, slot: int) -> None:
        self._crew.dismiss(slot)
        self._hired.discard(slot)
        self._idle.discard(slot)

    def _assign(self, workers: int) -> None:
        """Gives idle workers what there is; a suspect only where nothing else runs."""
        if self._busy and time.monotonic() > self._asked_at + _POLL_SECONDS:
            self._queue.extend((trial,) for trial in self._busy)
            self._busy.clear()
            self._asked_at = time.monotonic()
        for slot in sorted(self._idle):
            trials = self._next()
            if not trials:
                break
            self._start(slot, trials, beside=workers - 1, alone=False)
        if self._suspects and self._idle and not (self._queue or self._running):
            slot = min(self._idle)
            for other in self._hired - {slot}:
                self._dismiss(other)
            self._start(slot, (self._suspects.popleft(),), beside=0, alone=True)

    def _next(self) -> Stack:
        """The next trials that this sweep is to run, claimed; none where there are none."""
        while self._queue:
            mine = []
            for trial in self._queue.popleft():
                whose = self._claims.take(trial)
                if whose is Claim.MINE:
                    mine.append(trial)
                if whose is Claim.BUSY:
                    self._busy.append(trial)
            if mine:
                return tuple(mine)
        return ()

    def _start(self, slot: int, trials: Stack, *, beside: int, alone: bool) -> None:
        self._idle.remove(slot)
        self._running[slot] = _Run(
            trials=trials,
            beside=beside,
            alone=alone,
            started=time.monotonic(),
            oom_kills=_oom_kills(),
        )
        self._crew.give(slot, *self._task(trials, slot, beside))

    def _patience_seconds(self) -> float | None:
        """How long nothing but an event can need us."""
        waits = [_POLL_SECONDS] if self._busy or self._given_up is not None else []
        if self._timeout_seconds is not None:
            first = min((run.started for run in self._running.values()), default=None)
            if first is not None:
                left = first + self._timeout_seconds - time.monotonic()
                waits.append(min(max(0.0, left), _LONGEST_WAIT_SECONDS))
        return min(waits, default=None)

    def _ended(self, event: Event) -> Iterator[list[Row]]:
        """The rows of the trial that the event ends, if it does."""
        if event.kind == "ready":
            self._idle.add(event.slot)
            self._stillborn = 0
        elif event.kind == "item":
            self._running[event.slot].rows.append(event.value)
        elif event.kind == "end":
            run = self._running.pop(event.slot)
            self._idle.add(event.slot)
            yield from self._record(run)
        else:
            yield from self._bury(event)

    def _bury(self, event: Event) -> Iterator[list[Row]]:
        self._hired.discard(event.slot)
        self._idle.discard(event.slot)
        run = self._running.pop(event.slot, None)
        if run is None:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                raise BadInput(
                    f"Workers die before they can run a trial ({event.value}): "
                    + (
                        "is there memory for them? Fewer --jobs take less."
                        if "SIGKILL" in event.value
                        else "they say why above; python -c 'import dpbench.training.loop' may."
                    )
                )
        elif not run.alone:
            self._suspects.extend(run.trials)
        else:
            out_of_memory = "SIGKILL" in event.value and _oom_kills() > run.oom_kills
            status: Status = "out-of-memory" if out_of_memory else "crashed"
            memory = "; the kernel has killed for lack of memory meanwhile" if out_of_memory else ""
            reason = f"worker died, twice, the second time alone: {event.value}{memory}"
            yield from self._record(run, status, reason, event.stack)
        if self._waiting:
            self._hire([event.slot])

    def _overdue(self) -> list[int]:
        if self._timeout_seconds is None:
            return []
        limit = time.monotonic() - self._timeout_seconds
        return [slot for slot, run in self._running.items() if run.started <= limit]

    def _stop(self, slot: int) -> Iterator[list[Row]]:
        """Ends a trial that takes too long, and its worker: it may be stuck in compiled code."""
        run = self._running.pop(slot)
        stack = self._crew.stack(slot)
        self._dismiss(slot)
        if len(run.trials) > 1:
            self._busy.extend(run.trials)
            for trial in run.trials:
                self._claims.release(trial)
        else:
            reason = f"took longer than --trial-timeout {self._timeout_seconds:g} s"
            yield from self._record(run, "timeout", reason, stack)
        if self._waiting:
            self._hire([slot])

    def _record(
        self, run: _Run, status: Status = "ok", reason: str = "", stack: str | None = None
    ) -> Iterator[list[Row]]:
        """The rows of each trial; once they are taken care of, other sweeps may have it."""
        if status != "ok":
            (trial,) = run.trials
            lost = Lost(
                trial=trial,
                epochs=len(run.rows),
                beside=run.beside,
                status=status,
                reason=reason,
                stack=stack,
            )
            run.rows.append(self._row_of(lost))
        known = {trial.trial_id: trial for trial in run.trials}
        for rows in by_trial(run.rows):
            yield rows
            self._claims.release(known[rows[0]["trial_id"]])


def _oom_kills() -> int:
    """Processes that this machine's kernel has killed for lack of memory; 0 where it is silent."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
