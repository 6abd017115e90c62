"""Real schedulers and workers of dask.distributed, as processes on loopback."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

TESTS = Path(__file__).parent
SMALL = tuple(
    "--dataset digits --noise-multiplier 1 --max-grad-norm 1 --batch-size 64 --no-baseline".split()
)
START_SECONDS = 300  # on a busy machine processes take minutes to start


class Processes:
    """A scheduler and workers; all are gone when the context ends.

    Args:
        folder: Where their files go.
        environment: Variables of theirs.
        flags: Of both commands, such as TLS' files.
    """

    def __init__(
        self, folder: Path, environment: dict[str, str] | None = None, flags: Sequence[str] = ()
    ) -> None:
        self.file = folder / "scheduler.json"
        self._folder, self._flags = folder, list(flags)
        own = [str(TESTS / "faults"), str(TESTS)]  # the latter for work that a test defines
        path = os.pathsep.join([*own, os.environ.get("PYTHONPATH", "")])
        self._environment = os.environ | {"PYTHONPATH": path} | (environment or {})
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()

    def scheduler(self, port: int = 0, host: str = "tcp://127.0.0.1") -> subprocess.Popen[bytes]:
        """Started, and its file written."""
        self.file.unlink(missing_ok=True)
        started = self._start(
            *("distributed.cli.dask_scheduler", "--host", host, "--port", str(port)),
            *("--no-dashboard", "--scheduler-file", str(self.file)),
        )
        wait_for(self.file.exists)
        return started

    def worker(
        self, *flags: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Started; it finds the scheduler by its file. It has no nanny to start it again."""
        return self._start(
            *("distributed.cli.dask_worker", "--scheduler-file", str(self.file), "--no-nanny"),
            *("--nthreads", "1", "--no-dashboard", "--local-directory", str(self._folder)),
            *flags,
            environment=environment,
        )

    def _start(
        self, *command: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self._folder / f"{len(self._running)}.log"
        with log.open("wb") as file:
            started = subprocess.Popen(
                [sys.executable, "-m", *command, *self._flags],
                env=self._environment | (environment or {}),
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._running.append(started)
        return started


def wait_for(happened: object, seconds: float = START_SECONDS) -> None:
    """Returns once the call returns true.

    Raises:
        AssertionError: It does not in that time.
    """
    assert callable(happened)
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


@contextmanager
def sweep(out: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m dpbench.sweep` of small trials, running; it is gone when the context ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "dpbench.sweep", *SMALL, "--out", str(out), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
