"""Commands and trials in the test's own process, which has imported torch already."""

import contextlib
import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO, Any, Self

import pytest
from matplotlib.figure import Figure

from dpbench import sweep as sweep_command
from dpbench.errors import BadInput
from dpbench.execution import local
from dpbench.processes.worker import Kind
from dpbench.processes.worker_pool import Event

Command = Callable[[Sequence[str]], int]


class PoolHere:
    """A `WorkerPool` whose tasks run in this process, as they are submitted.

    Tests of what a sweep plans, records and answers use it. How worker processes start, die and
    are terminated is tested with the real pool.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        work: Callable[..., Iterator[Any]],
        _environment: Mapping[str, str],
    ) -> None:
        self._prepare, self._work = prepare, work
        self._events = deque[Event]()
        self.slots: frozenset[int] = frozenset()
        self.idle: frozenset[int] = frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def spawn(self, slot: int) -> None:
        self._prepare()
        self.slots |= {slot}
        self._events.append(Event(slot=slot, kind=Kind.READY))

    def submit(self, slot: int, *task: Any) -> None:
        self.idle -= {slot}
        try:
            self._events.extend(
                Event(slot=slot, kind=Kind.ITEM, value=item) for item in self._work(*task)
            )
            self._events.append(Event(slot=slot, kind=Kind.DONE))
        except BadInput as error:
            self._events.append(Event(slot=slot, kind=Kind.REFUSED, value=error))

    def events(self, _timeout_seconds: float | None) -> Iterator[Event]:
        while self._events:
            event = self._events.popleft()
            if event.kind is not Kind.ITEM:
                self.idle |= {event.slot}
            yield event

    def terminate(self, slot: int) -> None:
        self.slots -= {slot}
        self.idle -= {slot}


@contextlib.contextmanager
def trials_here() -> Iterator[None]:
    """Sweeps on this machine train in the test's process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local, "WorkerPool", PoolHere)
        yield


@contextlib.contextmanager
def blank_figures() -> Iterator[None]:
    """Figures are made, and their files are empty pictures: rendering takes most of a report."""

    def save(_figure: Figure, file: IO[bytes], **options: object) -> None:
        file.write(b"<svg></svg>" if options.get("format") == "svg" else b"\x89PNG")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Figure, "draw_without_rendering", lambda _figure: None)
        patched.setattr(Figure, "savefig", save)
        yield


def run(
    command: Command, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """What `python -m` with the command gives.

    DPBENCH_DATA is unset unless the environment has it.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.delenv("DPBENCH_DATA", raising=False)
        for name, value in (environment or {}).items():
            patched.setenv(name, value)
        try:
            code = command(arguments)
        except SystemExit as error:  # argparse's own
            code = error.code if isinstance(error.code, int) else 1
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def sweep(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """A sweep whose trials run in this process, and whose figures are empty."""
    with trials_here(), blank_figures():
        return run(sweep_command.main, *arguments, cwd=cwd, environment=environment)
