"""Worker processes of which each does one task at a time, so that it is known which task died.

joblib's own pool ends all its workers when one dies, and does not tell whose task it was. These are
the same processes (loky's), each with a pipe of its own.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Literal, Self

from joblib.externals.loky.backend.process import LokyProcess

from dpbench.processes import signals, worker

_LAST_WORDS_BYTES = 65_536  # what a pipe holds
_STACK_SECONDS = 2.0  # that a stuck worker gets to say where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a worker has sent, or that it died.

    Attributes:
        slot: The worker's place.
        kind: `ready` for its first task; an `item` of its task; the `end` of that; it `died`.
        value: The item; how it died, as `killed by SIGKILL` or `exit code 3`.
        stack: Where it was when it died, if it could say so.
    """

    slot: int
    kind: Literal["ready", "item", "end", "died"]
    value: Any = None
    stack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    process: Any
    tasks: Connection
    last_words: Connection


class Crew:
    """Workers in numbered slots; all are gone when the context ends.

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
        self._free: set[int] = set()

    @property
    def free(self) -> frozenset[int]:
        """Slots whose workers wait for a task."""
        return frozenset(self._free)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for slot in list(self._workers):
            self.dismiss(slot)

    def hire(self, slot: int) -> None:
        """Starts a worker; an event tells when it is ready."""
        tasks, their_tasks = Pipe()
        last_words, their_last_words = Pipe(duplex=False)
        process = LokyProcess(
            target=worker.serve,
            args=(os.getpid(), their_tasks, their_last_words, self._prepare, self._work),
            daemon=True,
            env=self._environment,
        )
        with signals.blocked():
            process.start()
        their_tasks.close()  # so that the worker's end is the only one, and closes with it
        their_last_words.close()
        self._workers[slot] = _Worker(process=process, tasks=tasks, last_words=last_words)

    def give(self, slot: int, *task: Any) -> None:
        """Gives the worker a task. If it has died meanwhile, an event will tell."""
        self._free.discard(slot)
        try:
            self._workers[slot].tasks.send(task)
        except (BrokenPipeError, ConnectionResetError):
            return

    def events(self, timeout_seconds: float | None) -> Iterator[Event]:
        """What has happened, once something has, or nothing after the timeout."""
        slots = {worker.tasks: slot for slot, worker in self._workers.items()}
        for ready in wait(list(slots), timeout_seconds):
            assert isinstance(ready, Connection)
            slot = slots[ready]
            try:
                kind, value = ready.recv()
            except (EOFError, OSError):
                yield self._died(slot)
            else:
                if kind != "item":
                    self._free.add(slot)
                yield Event(slot=slot, kind=kind, value=value)

    def dismiss(self, slot: int) -> None:
        """Ends the worker at once, whatever it is doing."""
        gone = self._workers.pop(slot)
        self._free.discard(slot)
        _signal(gone.process, signal.SIGKILL)
        gone.process.join()
        gone.tasks.close()
        gone.last_words.close()

    def stack(self, slot: int) -> str | None:
        """Where the worker is in its program, if it says so."""
        asked = self._workers[slot]
        _signal(asked.process, signal.SIGUSR1)
        if asked.last_words.poll(_STACK_SECONDS):
            time.sleep(0.1)  # until it has said all
        return _said(asked.last_words)

    def _died(self, slot: int) -> Event:
        dead = self._workers[slot]
        dead.process.join(1)  # it has closed its pipe; if it still runs, it ends now
        code = dead.process.exitcode
        stack = _said(dead.last_words)
        self.dismiss(slot)
        how = "closed its pipe" if code is None else _how(code)
        return Event(slot=slot, kind="died", value=how, stack=stack)


def _signal(process: Any, number: signal.Signals) -> None:
    if process.exitcode is None:  # which also keeps its id from another process until we look
        os.kill(process.pid, number)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _said(last_words: Connection) -> str | None:
    if not last_words.poll():
        return None
    said = os.read(last_words.fileno(), _LAST_WORDS_BYTES)
    return said.decode(errors="replace") or None
