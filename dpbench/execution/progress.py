"""What a user sees while trials run: a bar in a terminal or notebook, plain lines elsewhere."""

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from dpbench import console


class Progress:
    """How many are done and failed, and the time that is left.

    Args:
        count: How many there are to do.
        work: What they all cost, in any one unit; the time left is judged by it.
        what: Their name.
        quiet: Whether to show nothing at all.
    """

    def __init__(
        self, count: int, work: float, what: str = "trials", *, quiet: bool = False
    ) -> None:
        self._quiet = quiet
        self._count, self._work, self._what = count, work, what
        self._done = self._failed = 0
        self._work_done = 0.0
        self._start = time.monotonic()
        self._bar: tqdm[Any] | None = None
        if count and not quiet and (sys.stderr.isatty() or _in_notebook()):
            bar: tqdm[Any] = _bar_class()(
                total=work,
                bar_format="{desc} |{bar}| {percentage:3.0f} % [{elapsed} < {remaining}]",
                dynamic_ncols=True,
            )
            bar.set_description_str(self._counts())
            self._bar = bar

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()

    def done(self, line: str, *, work: float, failed: bool) -> None:
        """Counts one that has ended; `line` says how."""
        self._done += 1
        self._failed += failed
        self._work_done += work
        if self._quiet:
            return
        if self._bar is None:
            elapsed = time.monotonic() - self._start
            left = elapsed * (self._work - self._work_done) / self._work_done
            console.say(f"[{self._counts()}, {duration(left)} left] {line}")
            return
        with suppress(OSError):  # a terminal that has gone away
            if failed:
                self._bar.write(line, file=sys.stderr)
            self._bar.set_description_str(self._counts(), refresh=False)
            self._bar.update(work)

    def advance(self, work: float) -> None:
        """Counts work that is done of one that has not ended yet."""
        self._work_done += work
        if self._bar is not None:
            with suppress(OSError):
                self._bar.update(work)

    def _counts(self) -> str:
        return f"{self._done}/{self._count} {self._what}, {self._failed} failed"


def _in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    return "ipykernel" in sys.modules


def _bar_class() -> "type[tqdm[Any]]":
    """A widget in a notebook, text in a terminal."""
    if not _in_notebook():
        return tqdm
    from tqdm.auto import tqdm as notebook_bar

    return notebook_bar


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `4 min 05 s`, `2 h 10 min`."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
