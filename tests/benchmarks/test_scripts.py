"""Every script of bench/ runs, in its shortest form, or says in one line what it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from factories import ROOT

SCRIPTS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "bench").rglob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
NEEDS = ("CUDA device", "dataset=mnist", "MNIST", "Expected jax", "Expected dask")
WITHOUT_MNIST = ("efficiency", "mnist_grid", "opacus_table", "saturation")  # which run anywhere
# Their shortest form takes more than ten seconds. What they compute is tested beside this file and
# by the gate sweep.efficiency; that they start is tested here.
LONG = ("audit_seeds", "efficiency", "overhead_coverage")


def run(script: Path, data_root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    text = (ROOT / script).read_text(encoding="utf-8")
    short = ["--short"] if '"--short"' in text else []
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(ROOT / script), *short],
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
        pytest.param(each, marks=pytest.mark.slow if each.stem in LONG else (), id=str(each))
        for each in SCRIPTS
    ],
)
def test_a_script_runs_or_says_what_it_needs(script: Path, tmp_path: Path) -> None:
    """Where there is no MNIST, and none can be had."""
    blocked = tmp_path / "file"
    blocked.touch()  # a data root that cannot be made
    judge(script, run(script, blocked, tmp_path))


@pytest.mark.parametrize("name", LONG)
def test_a_long_script_starts(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / f"{name}.py"), "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--short" in done.stdout


def test_without_jax_its_step_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jax.py").write_text("raise ImportError", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run(Path("bench/peers/jax_step.py"), tmp_path, tmp_path)
    assert done.returncode == 2
    assert "Expected jax; pip install" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_runs_with_mnist(script: Path, mnist_root: Path, tmp_path: Path) -> None:
    judge(script, run(script, mnist_root, tmp_path))
