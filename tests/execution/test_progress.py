import sys
from types import ModuleType

import pytest

from dpbench.execution.progress import Progress, duration


def run(capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> str:
    with Progress(2, 2.0, quiet=quiet) as progress:
        progress.done("first: 90 %", work=1.0, failed=False)
        progress.done("second: failed", work=1.0, failed=True)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_without_a_terminal_each_trial_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = run(capsys).splitlines()
    assert first.startswith("[1/2 trials, 0 failed, ")
    assert first.endswith("first: 90 %")
    assert second == "[2/2 trials, 1 failed, 0 s left] second: failed"


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, quiet=True) == ""


def test_a_notebook_shows_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text where the kernel has no widgets; failures are lines above it."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    said = run(capsys)
    assert "2/2 trials, 1 failed |" in said
    assert "100 %" in said
    assert "second: failed\n" in said
    assert "first: 90 %" not in said


def test_durations_are_short() -> None:
    assert [duration(each) for each in (0.4, 245, 7800)] == ["0 s", "4 min 05 s", "2 h 10 min"]
