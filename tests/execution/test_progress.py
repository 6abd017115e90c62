import io
import re
import sys
import time
import warnings
from types import ModuleType

import pytest
from factories import make_trial
from tqdm import TqdmWarning

from dpbench.execution.progress import LINE_SECONDS, Progress, duration
from dpbench.execution.work_left import WorkLeft


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> str:
    with Progress(2, 4, 2.0, answer_at=[1, 3], quiet=quiet) as progress:
        progress.advance(1, work=0.5)
        progress.reached(0.9, 0.5)
        progress.reached(0.95, 2.0)
        progress.done("first: 95 %", parts=1, work=0.5, failed=False)
        progress.done("second: diverged", parts=2, work=1.0, failed=True)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


END = (
    "[2/2 trials, 1 failed, 4/4 epochs (100 %), took 0 s] best within epsilon 1: 90.0 %, 3: 95.0 %"
    "; failed: second: diverged"
)


def test_without_a_terminal_there_is_a_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys).splitlines() == [END]


def test_and_one_at_most_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress(100, 100, 100.0) as progress:
        for _ in range(100):
            now[0] += 1.0
            progress.done("", parts=1, work=1.0, failed=False)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) == 100 / LINE_SECONDS
    assert lines[0] == "[10/100 trials, 0 failed, 10/100 epochs (10 %), 1 min 30 s left]"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test moves."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


class Sweep:
    """Trials of so many epochs, whose epochs end as a test says."""

    def __init__(self, now: list[float], *epochs: int, beside: int = 2) -> None:
        self._now = now
        self.trials = [make_trial(seed=seed, epochs=each) for seed, each in enumerate(epochs)]
        self._ended = dict.fromkeys(self.trials, 0)
        cost = {trial.trial_id: float(trial.epochs) for trial in self.trials}
        self._left = WorkLeft(self.trials, cost)
        self.progress = Progress(
            len(epochs),
            sum(epochs),
            float(sum(epochs)),
            left=self._left.along_the_longest,
            beside=beside,
        )

    def epoch(self, seed: int, at: float) -> str:
        """The time that is left once the trial has ended an epoch then; empty if unsaid."""
        self._now[0] = 1000.0 + at
        trial = self.trials[seed]
        self._ended[trial] += 1
        left = trial.epochs - self._ended[trial]
        self._left.note(trial, float(left))
        self.progress.advance(1, work=1.0, begins=left == trial.epochs - 1 > 0)
        if not left:
            self.progress.done("", parts=0, work=0.0, failed=False)
        return self.said()

    def fails(self, seed: int) -> str:
        trial = self.trials[seed]
        left = trial.epochs - self._ended[trial]
        self._left.note(trial, 0.0)
        self.progress.done("", parts=left, work=float(left), failed=True)
        return self.said()

    def said(self) -> str:
        return "".join(re.findall(r"%\), (.*?) ?$", self.progress._counts()))


def test_the_time_left_holds_no_start_and_is_said_once_each_worker_has_been_seen(
    now: list[float],
) -> None:
    """The first epochs end after half a minute of imports and compilation, the others after 1 s."""
    sweep = Sweep(now, *[10] * 20)
    assert [sweep.epoch(0, 30), sweep.epoch(1, 31)] == ["", ""]
    assert sweep.epoch(0, 31.5) == ""
    assert sweep.epoch(1, 32) == "1 min 38 s left"  # 196 epochs, 2 a second


def test_trials_of_one_epoch_have_a_time_left_too(now: list[float]) -> None:
    sweep = Sweep(now, *[1] * 100)
    assert [sweep.epoch(trial, 30 + trial) for trial in range(3)] == ["", "", ""]
    assert sweep.epoch(3, 33) == "1 min 36 s left"


def test_a_stack_of_trials_is_seen_as_one(now: list[float]) -> None:
    sweep = Sweep(now, *[10] * 8, beside=1)
    first = [sweep.epoch(trial, 30) for trial in range(8)]
    second = [sweep.epoch(trial, 31) for trial in range(8)]
    assert {*first, *second[:7]} == {""}
    assert second[7] == "8 s left"


def test_at_the_end_one_trial_takes_its_own_time(now: list[float]) -> None:
    """Of a search's last rung three long trials are left for two workers."""
    sweep = Sweep(now, 10, 10, 10)
    for second in range(1, 11):
        sweep.epoch(0, second)
        said = sweep.epoch(1, second)
    assert said == "10 s left"
    assert sweep.epoch(2, 11).startswith(("8 s", "9 s"))


def test_what_a_failed_trial_did_not_run_is_no_work_done(now: list[float]) -> None:
    sweep = Sweep(now, *[10] * 4)
    for second in range(1, 6):
        sweep.epoch(0, second)
        before = sweep.epoch(1, second)
    assert before == "15 s left"
    assert sweep.fails(0) == "12 s left"


def test_work_that_another_sweep_does_is_not_left(now: list[float]) -> None:
    left = WorkLeft(trials := Sweep(now, 10, 5).trials, {t.trial_id: 1.0 for t in trials})
    left.note(trials[0], 0.0)
    assert left.along_the_longest() == 1.0
    left.note(trials[1], 0.0)
    assert left.along_the_longest() == 0.0


def test_a_failure_is_said_once(capsys: pytest.CaptureFixture[str], now: list[float]) -> None:
    with Progress(3, 3, 3.0) as progress:
        for failed in (True, False, False):
            now[0] += LINE_SECONDS
            progress.done("the first: diverged", parts=1, work=1.0, failed=failed)
    assert capsys.readouterr().err.count("the first: diverged") == 1


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, quiet=True) == ""


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminals_bar_moves_at_every_epoch_and_fits(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    with warnings.catch_warnings():
        warnings.simplefilter("error", TqdmWarning)
        with Progress(3, 30, 0.3, answer_at=[1.0, 3.0, 8.0]) as progress:
            for trial in range(3):
                for epoch in range(9):
                    progress.reached((epoch + trial) / 100, 0.1 * epoch)
                    progress.advance(1, work=0.01)
                progress.done(f"trial {trial}", parts=1, work=0.01, failed=False)
    drawn = re.split(r"[\r\n]|\x1b\[A", terminal.getvalue())
    assert max(map(len, drawn)) <= columns
    shown = re.findall(r"(\d+)/30 epochs \((\d+) %\)", terminal.getvalue())
    assert list(dict.fromkeys(int(done) for done, _ in shown)) == list(range(31))
    assert all(int(percent) == 100 * int(done) // 30 for done, percent in shown)
    assert "best within epsilon 1: 10.0 %" in terminal.getvalue()
    assert ("2/3 trials, 0 failed, 20/30 epochs" in terminal.getvalue()) is (columns >= 80)


def test_a_notebook_shows_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text where the kernel has no widgets; failures are lines above it."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    said = run(capsys)
    assert "2/2 trials, 1 failed, 4/4 epochs (100 %)" in said
    assert "second: diverged\n" in said
    assert "first: 95 %" not in said


def test_durations_are_short() -> None:
    assert [duration(each) for each in (0.4, 245, 7800)] == ["0 s", "4 min 05 s", "2 h 10 min"]
