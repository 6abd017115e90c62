"""Every script of bench/ runs, in its shortest form, or says in one line what it needs."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import here as sweeps
import pytest
from factories import ROOT

SCRIPTS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "bench").rglob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
NEEDS = ("CUDA device", "dataset=mnist", "MNIST", "Expected jax", "Expected dask")
WITHOUT_MNIST = (  # which run anywhere
    *("efficiency", "opacus_table", "published_again", "reference", "saturation"),
)
# Their shortest form takes five seconds and more. What they compute is tested beside this file and
# by the gate sweep.efficiency; that they start is tested here. JAX compiles for fifteen seconds.
LONG = (
    *("audit_seeds", "efficiency", "false_alarms", "jax_step", "layers", "layers_table"),
    *("overhead_coverage", "reference", "selection_bias", "step_profile"),
)


def here(
    script: Path,
    *arguments: str,
    folder: Path,
    patched: pytest.MonkeyPatch,
    said: pytest.CaptureFixture[str],
) -> subprocess.CompletedProcess[str]:
    """Runs the script in this process, which has imported torch already."""
    patched.chdir(folder)
    patched.setattr(sys, "argv", [str(script), *arguments])
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as error:
        code = error.code
    else:
        code = 0
    assert code is None or isinstance(code, int), code
    printed = said.readouterr()
    return subprocess.CompletedProcess(arguments, code or 0, printed.out, printed.err)


def short(script: Path) -> list[str]:
    return ["--short"] if '"--short"' in (ROOT / script).read_text(encoding="utf-8") else []


def run(script: Path, data_root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(ROOT / script), *short(script)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "DPBENCH_DATA": str(data_root)},
        capture_output=True,
        text=True,
        check=False,
    )


def judge(script: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode == 2:
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert any(need in line for need in NEEDS), line
        assert script.stem not in WITHOUT_MNIST, line
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_scripts_are_found() -> None:
    assert {path.stem for path in SCRIPTS} >= {*WITHOUT_MNIST, "jax_step", "race", "stacks"}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(each, marks=pytest.mark.long if each.stem in LONG else (), id=str(each))
        for each in SCRIPTS
    ],
)
def test_a_script_runs_or_says_what_it_needs(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where there is no MNIST, and none can be had."""
    blocked = tmp_path / "file"
    blocked.touch()  # a data root that cannot be made
    monkeypatch.setenv("DPBENCH_DATA", str(blocked))
    with sweeps.trials_here(), sweeps.blank_figures():
        done = here(script, *short(script), folder=tmp_path, patched=monkeypatch, said=capsys)
    judge(script, done)


@pytest.mark.parametrize("script", [each for each in SCRIPTS if each.stem in LONG], ids=str)
def test_a_long_script_starts(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = here(script, "--help", folder=tmp_path, patched=monkeypatch, said=capsys)
    assert done.returncode == 0, done.stderr
    assert [flag for flag in short(script) if flag not in done.stdout] == []
    assert "usage: " in done.stdout


def test_a_script_is_a_program(tmp_path: Path) -> None:
    script = Path("bench/published_again.py")
    judge(script, run(script, tmp_path, tmp_path))


def test_without_jax_its_step_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jax.py").write_text("raise ImportError", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run(Path("bench/peers/jax_step.py"), tmp_path, tmp_path)
    assert done.returncode == 2
    assert "Expected jax; pip install" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_runs_with_mnist(script: Path, mnist_root: Path, tmp_path: Path) -> None:
    judge(script, run(script, mnist_root, tmp_path))
