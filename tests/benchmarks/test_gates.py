"""The gates fail when they must: each by something planted, in a run of its own."""

import copy
import io
import json
import os
import shutil
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import ROOT

from bench import conftest, gates, test_steps
from dpbench.trial import DEFAULT_MODEL

PLANTED = """
import time
from dataclasses import replace
from dpbench import engines
from dpbench.measurement import memory
from dpbench.privacy import accounting
from dpbench.store import files
from dpbench.engines.opacus import grad_sample

# every private step costs twice, by taking it twice
build = engines.build

class Twice:
    def __init__(self, engine):
        self.engine = engine

    def step(self, images, labels):
        self.engine.step(images, labels)
        return self.engine.step(images, labels)

def slow(trial, model, **knobs):
    engine = build(trial, model, **knobs)
    return Twice(engine) if trial.private else engine

engines.build = slow

# memory is lost
memory.resident_growth = lambda *_, **__: 10**9

# an accountant is off by two millionths
spent = accounting.spent
accounting.spent = lambda **asked: replace(
    spent(**asked), epsilon_rdp=spent(**asked).epsilon_rdp * (1 + 2e-6)
)

# the store writes everything five times
write = files.write

def often(root, path, table):
    for _ in range(5):
        write(root, path, table)

files.write = often

# an engine learns nothing
grad_sample.GradSample.step = lambda self, images, labels: images.new_ones(())
"""
GATES = (
    "overhead.tutorial-cnn.fused.64",
    "memory.tutorial-cnn.fused.64",
    "overhead.mlp.bookkeeping.64",
    "memory.mlp.bookkeeping.256",
    "epsilon.opacus-tests",
    "test_write_trial",
    "test_accuracy_on_digits",
)


def bench(
    *arguments: str, plugin: str = "", folder: Path, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs the gates with a plugin that changes the program before they look at it."""
    (folder / "planted.py").write_text(plugin, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "planted", "--short", "-q", *arguments]
    path = os.pathsep.join([str(cwd), str(folder), os.environ.get("PYTHONPATH", "")])
    # pytest-benchmark measures nothing in a worker of pytest-xdist, for which it would take this
    alone = {name: value for name, value in os.environ.items() if "PYTEST_XDIST" not in name}
    return subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=cwd,
        env=alone | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("gates", "timed"),
    [
        pytest.param(GATES, 3, id="all", marks=pytest.mark.long),  # CI runs `pytest bench`, too
        pytest.param(("test_write_trial",), 1, id="one", marks=pytest.mark.slow),
    ],
)
def test_gates_pass_and_their_figures_carry_versions_threads_and_ratios(
    gates: tuple[str, ...], timed: int, tmp_path: Path
) -> None:
    saved = tmp_path / "bench.json"
    done = bench("bench", "-k", " or ".join(gates), f"--benchmark-json={saved}", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"{len(gates)} passed" in done.stdout
    figures = json.loads(saved.read_text(encoding="utf-8"))["benchmarks"]
    assert len(figures) == timed
    for figure in figures:
        info = figure["extra_info"]
        assert {"torch_version", "opacus_version", "dpbench_commit", "threads"} <= set(info)
        assert info["low"] <= info["ratio"] <= info["high"]
        assert info["ratio"] <= info["limit"]


@pytest.mark.long  # it times, so .ci/run runs it alone; the rules of gates are tested below
def test_each_gate_fails_by_what_is_planted(tmp_path: Path) -> None:
    """A step that costs twice, memory lost, an epsilon off, a slow store, an idle engine."""
    done = bench("bench", "-k", " or ".join(GATES), plugin=PLANTED, folder=tmp_path)
    assert done.returncode == 1, done.stdout
    assert f"{len(GATES)} failed" in done.stdout


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the gates and what configures them, to be spoilt."""
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.long  # `pytest bench`, which CI runs, fails where one is missing
def test_all_gates_are_here(copied: Path) -> None:
    done = bench("bench", "--collect-only", folder=copied, cwd=copied)
    assert done.returncode == 0, done.stdout


def test_a_gate_without_a_test_is_named_and_fails() -> None:
    """All of them, as no test is collected."""
    gone = collected("bench", items=[])
    said = io.StringIO()
    reporter = SimpleNamespace(config=gone, write_line=lambda line, **_: print(line, file=said))
    conftest.pytest_terminal_summary(reporter)  # type: ignore[arg-type]
    assert "GATE DISAPPEARED memory.tutorial-cnn.fused.64: no test claims it" in said.getvalue()
    assert said.getvalue().count("\n") == len(list(gates.keys()))
    session = SimpleNamespace(config=gone, exitstatus=0)
    conftest.pytest_sessionfinish(session)  # type: ignore[arg-type]
    assert session.exitstatus == 1


def test_part_of_the_gates_may_be_asked_for() -> None:
    part = collected("bench/test_steps.py", items=[])
    session = SimpleNamespace(config=part, exitstatus=0)
    conftest.pytest_sessionfinish(session)  # type: ignore[arg-type]
    assert session.exitstatus == 0


def collected(argument: str, *, items: list[pytest.Item]) -> Any:
    """A configuration of `pytest argument`, after these tests are collected."""
    config = SimpleNamespace(
        args=[str(ROOT / argument)],
        option=SimpleNamespace(keyword="", measured=False),
        stash=pytest.Stash(),
    )
    conftest.pytest_collection_modifyitems(config, items)  # type: ignore[arg-type]
    return config


@pytest.mark.slow  # above, no test claims any gate
def test_a_gate_that_has_disappeared_fails(copied: Path) -> None:
    """One with its file, and one that a mark leaves out."""
    (copied / "bench" / "test_harness.py").unlink()
    steps = copied / "bench" / "test_steps.py"
    text = steps.read_text(encoding="utf-8")
    text = text.replace("def test_memory", "@pytest.mark.slow\ndef test_memory")
    steps.write_text(text, encoding="utf-8")
    done = bench("bench", "--collect-only", folder=copied, cwd=copied)
    assert done.returncode == 1, done.stdout
    assert "GATE DISAPPEARED memory.tutorial-cnn.fused.64" in done.stdout
    assert "GATE DISAPPEARED sweep.efficiency" in done.stdout


@pytest.mark.parametrize("table", ["overhead", "memory"])
def test_an_engine_without_its_limit_fails(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test_steps.test_every_private_engine_has_its_limits()
    without(monkeypatch, table, DEFAULT_MODEL, "fused")
    with pytest.raises(AssertionError):
        test_steps.test_every_private_engine_has_its_limits()


@pytest.mark.parametrize(
    "path",
    [("overhead", "mlp"), ("memory", "tanh-cnn", "fused"), ("ungated", "logistic")],
    ids=".".join,
)
def test_a_model_without_its_limit_fails(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    test_steps.test_every_model_has_its_limits_or_says_why_not()
    without(monkeypatch, *path)
    with pytest.raises(AssertionError):
        test_steps.test_every_model_has_its_limits_or_says_why_not()


def without(monkeypatch: pytest.MonkeyPatch, *path: str) -> None:
    """The limits but for the one at this path."""
    spoilt = copy.deepcopy(dict(gates.LIMITS))
    *above, last = path
    del reduce(getitem, above, spoilt)[last]
    monkeypatch.setattr(gates, "LIMITS", spoilt)


def test_what_steps_cost_is_printed_beside_what_is_expected() -> None:
    said = io.StringIO()
    report = SimpleNamespace(
        when="call",
        nodeid="bench/test_steps.py::test_overhead[overhead.mlp.bookkeeping.64]",
        user_properties=[("measured", "1.98 of 2.1")],
    )
    reporter = SimpleNamespace(
        stats={"failed": [report], "passed": [SimpleNamespace(when="call", user_properties=[])]},
        config=SimpleNamespace(stash=pytest.Stash(), option=SimpleNamespace(measured=True)),
        write_line=lambda line, **_: print(line, file=said),
    )
    conftest.pytest_terminal_summary(reporter)  # type: ignore[arg-type]
    assert said.getvalue() == "overhead.mlp.bookkeeping.64: 1.98 of 2.1\n"
