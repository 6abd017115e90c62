"""README's workflow for continuous integration is well formed, and its steps run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import yaml
from factories import ROOT, mostly_slow

from dpbench import store

QUICK = ROOT / "results" / "mnist-quick"


def workflow() -> dict[Any, Any]:
    (block,) = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    parsed: dict[Any, Any] = yaml.safe_load(block)
    return parsed


def steps() -> list[dict[str, Any]]:
    (job,) = workflow()["jobs"].values()
    return list(job["steps"])


def command(name: str) -> str:
    (found,) = (step["run"] for step in steps() if step.get("name") == name)
    return str(found)


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """A folder as the job has it after its installation: an interpreter on each side."""
    for side in ("before", "after"):
        python = tmp_path / side / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
        python.chmod(0o755)
    return tmp_path


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The step as a runner of GitHub runs it."""
    where = {"GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [str(shutil.which("bash")), "-e", "-c", command(name)],
        cwd=folder,
        env=os.environ | where,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_workflow_runs_both_sides_in_one_job() -> None:
    found = workflow()
    assert found[True] == "pull_request"  # YAML 1.1 reads `on` as a truth value
    assert len(found["jobs"]) == 1
    checked_out = [step["with"] for step in steps() if step.get("uses", "").endswith("checkout@v4")]
    assert [each["path"] for each in checked_out] == ["before", "after"]
    assert "base.sha" in checked_out[0]["ref"]
    assert all(("uses" in step) != ("run" in step) for step in steps())


@pytest.mark.parametrize("step", [step["run"] for step in steps() if "run" in step])
def test_a_steps_shell_is_well_formed(step: str) -> None:
    bash = str(shutil.which("bash"))
    checked = subprocess.run([bash, "-n", "-c", step], check=False, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("slower", mostly_slow([1.0, 2.5], lambda slower: slower > 1))
def test_its_comparison_passes_and_fails(slower: float, runner: Path) -> None:
    for side in ("before", "after"):
        shutil.copytree(QUICK, runner / "results" / side)
    for path in (runner / "results" / "after" / "timings").iterdir():
        frame = pd.read_parquet(path)
        frame["seconds_per_step"] *= slower
        frame.reindex(columns=store.TIMINGS.names).to_parquet(path, schema=store.TIMINGS)
    done = run("Compare", runner)
    assert done.returncode == (0 if slower == 1 else 3), done.stderr
    line = "checked 22 of 22 arms, 14 of 14 timings, 18 of 18 epsilons"
    assert done.stdout.startswith(f"{line}\n")
    summary = (runner / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("## No regression\n" if slower == 1 else "## Regression\n")
    root = ElementTree.parse(runner / "results" / "junit.xml").getroot()  # noqa: S314  # our own
    assert root.get("failures") == ("0" if slower == 1 else "14")
    assert root.get("tests") == str(22 + 14 + 18 + 2)


@pytest.mark.long
def test_the_whole_of_it_finds_nothing_in_unchanged_code(runner: Path) -> None:
    swept = run("Run both sides", runner)
    assert swept.returncode == 0, swept.stderr
    done = run("Compare", runner)
    assert done.returncode == 0, done.stdout
    assert re.match(r"checked 7 of 7 arms, 7 of 7 timings, 4 of 4 epsilons\n", done.stdout)
    assert (runner / "summary.md").read_text(encoding="utf-8").startswith("## No regression\n")
