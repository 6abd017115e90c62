import io
import re
import sys
import time
import warnings
from types import ModuleType

import pytest
from tqdm import TqdmWarning

from dpbench.execution.progress import LINE_SECONDS, Progress, duration


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
    "[2/2 trials, 1 failed, 4/4 epochs (100 %), 0 s left] best within epsilon 1: 90.0 %, 3: 95.0 %"
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
    assert len(lines) == 100 / LINE_SECONDS + 1
    assert lines[0] == "[10/100 trials, 0 failed, 10/100 epochs (10 %), 1 min 30 s left]"


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
