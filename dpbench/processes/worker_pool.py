"""Worker processes that each run one task at a time, so that it is known which task died.

The processes are those of joblib's loky, each with a pipe of its own. joblib's own pool ends all
its workers when one dies, and does not tell whose task it was; pebble's does not survive kills, for
its workers share a pipe and a lock. The README of `execution` has the figures.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self, cast

from joblib.externals.loky.backend import resource_tracker as loky_tracker
from joblib.externals.loky.backend.process import LokyProcess

from dpbench.processes import signals, worker
from dpbench.processes.worker import Kind

_PIPE_BYTES = 65_536  # what a pipe holds
_STACK_SECONDS = 2.0  # for a stuck worker to write its stack
_EXIT_SECONDS = 20.0  # for a worker that has closed its pipe to end: its memory is freed first


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a process has ended that was not asked to.

    Attributes:
        exit_code: As of `multiprocessing`: the negative number of the signal that killed it. None
            if it closed its pipe and still runs.
    """

    exit_code: int | None

    @property
    def by_sigkill(self) -> bool:
        """Whether SIGKILL ended it, as the kernel does when memory is short."""
        return hasattr(signal, "SIGKILL") and self.exit_code == -signal.SIGKILL

    def __str__(self) -> str:
        if self.exit_code is None:
            return "closed its pipe"
        if self.exit_code >= 0:
            return f"exit code {self.exit_code}"
        try:
            return f"killed by {signal.Signals(-self.exit_code).name}"
        except ValueError:
            return f"killed by signal {-self.exit_code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What has happened to a worker.

    Attributes:
        slot: The worker's.
        kind: What it is.
        value: As the kind says.
        stack: Where the worker was when it died or raised, if it could write that.
    """

    slot: int
    kind: Kind
    value: Any = None
    stack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    process: Any
    tasks: Connection
    traceback: Connection


class WorkerPool:
    """Workers in numbered slots; all are terminated when the context ends.

    Args:
        prepare: Called once in each worker.
        work: Called there with the arguments of each task; what it yields comes back as events.
        environment: Variables that are set in the workers.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        work: Callable[..., Iterator[Any]],
        environment: Mapping[str, str],
    ) -> None:
        self._prepare, self._work, self._environment = prepare, work, dict(environment)
        self._workers: dict[int, _Worker] = {}
        self._idle: set[int] = set()

    @property
    def slots(self) -> frozenset[int]:
        """Slots that have a worker."""
        return frozenset(self._workers)

    @property
    def idle(self) -> frozenset[int]:
        """Slots whose workers wait for a task."""
        return frozenset(self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for slot in list(self._workers):
            self.terminate(slot)

    def spawn(self, slot: int) -> None:
        """Starts a worker; READY follows."""
        tasks, their_tasks = Pipe()
        traceback, their_traceback = Pipe(duplex=False)
        process = LokyProcess(
            target=worker.serve,
            args=(os.getpid(), their_tasks, their_traceback, self._prepare, self._work),
            daemon=True,
            env=self._environment,
        )
        loky_tracker.ensure_running()  # older ones' start of it would unblock signals
        with signals.blocked():
            process.start()
        their_tasks.close()  # so that only the worker holds this end, and its death closes it
        their_traceback.close()
        self._workers[slot] = _Worker(process=process, tasks=tasks, traceback=traceback)

    def submit(self, slot: int, *task: Any) -> None:
        """Gives the idle worker a task. If it has died meanwhile, DIED follows."""
        self._idle.discard(slot)
        try:
            self._workers[slot].tasks.send(task)
        except (BrokenPipeError, ConnectionResetError):
            return

    def run(self, slot: int, *task: Any) -> list[Any] | Death:
        """Runs one task to its end, while no other runs; spawns the worker if there is none.

        Returns:
            What the task has yielded, or how its worker has died.

        Raises:
            BadInput: The task has raised it.
        """
        if slot in self._idle:
            self.submit(slot, *task)
        else:
            self.spawn(slot)
        items = []
        while True:
            for event in self.events(None):
                match event.kind:
                    case Kind.READY:
                        self.submit(slot, *task)
                    case Kind.ITEM:
                        items.append(event.value)
                    case Kind.DONE:
                        return items
                    case Kind.REFUSED:
                        raise event.value
                    case Kind.DIED:
                        death: Death = event.value
                        return death

    def events(self, timeout_seconds: float | None) -> Iterator[Event]:
        """What has happened, as soon as something has; nothing after the timeout."""
        slots = {worker.tasks: slot for slot, worker in self._workers.items()}
        for ready in wait(list(slots), timeout_seconds):
            slot = slots[cast("Connection", ready)]  # on Windows a class of its own
            try:
                kind, value, stack = self._workers[slot].tasks.recv()
            except (EOFError, OSError):
                yield self._died(slot)
                continue
            if kind is not Kind.ITEM:
                self._idle.add(slot)
            yield Event(slot=slot, kind=kind, value=value, stack=stack)

    def terminate(self, slot: int) -> None:
        """Kills the worker, whatever it is doing."""
        gone = self._workers.pop(slot)
        self._idle.discard(slot)
        _kill(gone.process)
        gone.process.join()
        gone.tasks.close()
        gone.traceback.close()

    def stack(self, slot: int) -> str | None:
        """Where the worker is in its program, if it can write that."""
        running = self._workers[slot]
        if not hasattr(signal, "SIGUSR1"):
            return None
        if running.process.exitcode is None:  # until it is read, no other process gets its id
            os.kill(running.process.pid, signal.SIGUSR1)
        if running.traceback.poll(_STACK_SECONDS):
            time.sleep(0.1)  # until it has written all
        return _written(running.traceback)

    def _died(self, slot: int) -> Event:
        dead = self._workers[slot]
        dead.process.join(_EXIT_SECONDS)  # if it still runs, `terminate` ends it
        death = Death(exit_code=dead.process.exitcode)
        stack = _written(dead.traceback)
        self.terminate(slot)
        return Event(slot=slot, kind=Kind.DIED, value=death, stack=stack)


def _kill(process: Any) -> None:
    if process.exitcode is not None:  # it has been read: another process may have the same id
        return
    if hasattr(signal, "SIGKILL"):
        os.kill(process.pid, signal.SIGKILL)
    else:  # on Windows, that kills
        process.terminate()


def _written(traceback: Connection) -> str | None:
    if sys.platform == "win32" or not traceback.poll():  # there, nothing is written
        return None
    written = os.read(traceback.fileno(), _PIPE_BYTES)
    return written.decode(errors="replace") or None
