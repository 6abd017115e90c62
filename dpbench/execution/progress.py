"""What a user sees while trials run: a bar in a terminal or notebook, plain lines elsewhere."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from dpbench import console
from dpbench.trial import NON_PRIVATE

LINE_SECONDS = 10.0  # at least, between two lines where there is no terminal
_LEAST_BAR = 6  # columns


class Progress:
    """How far the work is, how much of it failed, and the time that is left.

    Args:
        count: How many items there are to do.
        parts: Of all items together, each of which moves the bar: epochs of trials.
        work: What they all cost, in any one unit; the time left is judged by it.
        what: The items' name.
        part: The parts' name.
        left: The work that is left; None for the work less what is done. More where workers will
            have nothing to do.
        beside: How many items are worked on at a time.
        stage: Of work that is done in several stages, which one this is.
        answer_at: Epsilons whose best accuracy so far is shown.
        quiet: Whether to show nothing at all.
    """

    def __init__(
        self,
        count: int,
        parts: int,
        work: float,
        *,
        what: str = "trials",
        part: str = "epochs",
        left: Callable[[], float] | None = None,
        beside: int = 1,
        stage: str = "",
        answer_at: Sequence[float] = (),
        quiet: bool = False,
    ) -> None:
        self._quiet = quiet or not count
        self._count, self._parts, self._work = count, parts, work
        self._what, self._part, self._answer_at = what, part, sorted(answer_at)
        self._stage = f"{stage}: " if stage else ""
        self._done = self._failed = self._parts_done = 0
        self._work_done = 0.0
        self._left, self._beside = left or self._undone, beside
        self._before = self._after = (
            0  # times that parts were done: until the clock runs, and since
        )
        self._clock = (0.0, 0.0)  # when it began to run, and the work that was done then
        self._best: dict[float | None, float] = {}  # by epsilon; None for the non-private trials
        self._failure = ""
        self._said = (-1, -1)  # items and parts that the last line said
        self._start = self._said_at = time.monotonic()
        self._bar: tqdm[Any] | None = None
        self._below: tqdm[Any] | None = None
        if not self._quiet and (sys.stderr.isatty() or _in_notebook()):
            bar = _bar_class()
            width = None if _in_notebook() else _columns()
            self._bar = bar(
                total=parts,
                desc=self._counts(_columns() - _LEAST_BAR),
                bar_format="{desc}|{bar}|",
                ncols=width,
            )
            self._below = bar(total=0, bar_format="{desc}", position=1, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is None or self._below is None:
            if self._said != (self._done, self._parts_done):
                self._say()
            return
        with _terminal():
            self._below.close()
            self._bar.close()

    def advance(self, parts: int, *, work: float, begins: bool = False) -> None:
        """Counts parts that are done of an item that has not ended yet.

        Args:
            parts: How many.
            work: That they cost.
            begins: Whether they are the item's first of several.
        """
        self._count_parts(parts, work, begins=begins)
        self._show()

    def done(self, line: str, *, parts: int, work: float, failed: bool) -> None:
        """Counts an item that has ended, and its remaining parts; `line` says how it ended.

        The remaining parts of one that has failed were not done: no time was taken for them.
        """
        self._done += 1
        self._failed += failed
        if failed:
            self._parts_done += parts
            self._work -= work
            self._failure = line
        else:
            self._count_parts(parts, work)
        if failed and self._bar is not None:
            with _terminal():
                self._bar.write(line, file=sys.stderr)
        self._show()

    def _count_parts(self, parts: int, work: float, *, begins: bool = False) -> None:
        """Counts them; starts the clock after each worker's first, which hold its start."""
        self._parts_done += parts
        self._work_done += work
        if not work:
            return
        if not self._after and (begins or self._before < self._beside):
            self._before += 1
            self._clock = (time.monotonic(), self._work_done)
        else:
            self._after += 1

    def _undone(self) -> float:
        return max(0.0, self._work - self._work_done)

    def reached(self, accuracy: float, epsilon: float | None) -> None:
        """Notes an accuracy, and the epsilon spent for it; None of a non-private trial."""
        within = [each for each in self._answer_at if epsilon is not None and epsilon <= each]
        for key in within if epsilon is not None else [None]:
            self._best[key] = max(accuracy, self._best.get(key, 0.0))

    def _show(self) -> None:
        if self._quiet:
            return
        if self._bar is None or self._below is None:
            if time.monotonic() >= self._said_at + LINE_SECONDS:
                self._say()
            return
        with _terminal():
            self._bar.n = self._parts_done
            if not _in_notebook():
                self._bar.ncols = _columns()  # the terminal may have changed
            self._bar.set_description_str(self._counts(_columns() - _LEAST_BAR))
            self._below.set_description_str(self._bests()[: _columns() - 1])

    def _say(self) -> None:
        if self._quiet:
            return
        self._said_at, self._said = time.monotonic(), (self._done, self._parts_done)
        after = [self._bests(), *([f"failed: {self._failure}"] if self._failure else [])]
        self._failure = ""  # it is said once
        console.say(f"[{self._counts().strip()}] {'; '.join(filter(None, after))}".strip())

    def _counts(self, columns: int = 1000) -> str:
        """What has been done, as much of it as fits so many columns."""
        failed = f", {self._failed} failed"
        items = f"{self._done:,}/{self._count:,} {self._what}{failed}, "
        parts = f"{self._parts_done:,}/{self._parts:,} {self._part} "
        percent = f"{100 * self._parts_done // max(1, self._parts)} %"
        left = self._time()
        forms = (
            f"{self._stage}{items}{parts}({percent}){left} ",
            f"{self._stage}{parts}({percent}){left} ",
            f"{parts}({percent}){left} ",
        )
        return next((form for form in forms if len(form) <= columns), f"{percent}{left} ")

    def _time(self) -> str:
        """That is left, once there is a basis for it; at the end that it took."""
        now = time.monotonic()
        if self._parts_done >= self._parts and self._done >= self._count:
            return f", took {duration(now - self._start)}"
        since, before = self._clock
        if self._after < max(1, self._before) or self._work_done <= before:
            return ""
        seconds = (now - since) * self._left() / (self._work_done - before)
        return f", {duration(seconds)} left"

    def _bests(self) -> str:
        """The best accuracy so far: non-private, and within each epsilon."""
        texts = [f"{NON_PRIVATE} {100 * self._best[None]:.1f} %"] if None in self._best else []
        name = "within epsilon "
        for epsilon in self._answer_at:
            if epsilon in self._best:
                texts.append(f"{name}{epsilon:g}: {100 * self._best[epsilon]:.1f} %")
                name = ""
        return f"best {', '.join(texts)}" if texts else ""


@contextmanager
def _terminal() -> Iterator[None]:
    """Ignores that the terminal has gone away: a sweep outlives it."""
    with suppress(OSError):
        yield


def _columns() -> int:
    """Of the terminal."""
    columns = 0
    with suppress(OSError, ValueError):  # stderr is no file, or no terminal
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    return columns or shutil.get_terminal_size().columns


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
