"""The intervals of overheads, over processes and over the pairs of one; and what was measured."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from factories import ROOT
from scipy import stats

from bench import overhead_coverage as script
from dpbench.execution import timing_task

FOLDER = ROOT / "results" / "overhead_coverage"


def drawn(between: float, within: float, processes: int) -> list[list[float]]:
    """Ratios of nine pairs a process, around 2."""
    draws = np.random.default_rng(0)
    levels = 2 + between * draws.standard_normal(processes)
    return [list(level + within * draws.standard_normal(9)) for level in levels]


def test_pairs_of_one_process_miss_what_differs_between_processes() -> None:
    one, several, _ = script.coverage({"fused": drawn(0.1, 0.01, 360)}, 6)
    assert one.covered < 0.2 * one.intervals
    assert several.covered > 0.93 * several.intervals
    assert (one.intervals, several.intervals) == (360, 60)
    assert one.width < several.width


def test_where_processes_are_alike_both_hold_it() -> None:
    one, several, _ = script.coverage({"fused": drawn(0.0, 0.05, 360)}, 6)
    assert one.covered > 0.93 * one.intervals
    assert several.covered > 0.93 * several.intervals


def test_an_interval_takes_the_pairs_that_a_timing_takes() -> None:
    ratios = [
        [1.0] * timing_task.TIMED_PAIRS + [9.0] * 6,
        [2.0] * timing_task.TIMED_PAIRS + [9.0] * 6,
    ]
    _, several, _ = script.coverage({"fused": ratios}, 2)
    assert several.width == 1


def test_the_t_interval_is_that_of_the_logarithms() -> None:
    medians = [0.4, 0.5, 0.6, 0.45]
    logs = np.log(medians)
    expected = stats.t.interval(0.95, 3, loc=logs.mean(), scale=stats.sem(logs))
    assert script.student(medians) == pytest.approx(tuple(np.exp(expected)))


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "coverage.json").read_text(encoding="utf-8"))
    return found


def test_what_is_committed_is_what_its_ratios_say(committed: dict[str, Any]) -> None:
    plan = committed["plan"]
    assert plan["processes"] == timing_task.TIMED_PROCESSES
    assert plan["groups"] >= 10
    found = script.read(committed)
    again = script.coverage(committed["ratios"], plan["processes"])
    assert [asdict(row) for row in found] == [pytest.approx(asdict(row)) for row in again]
    for of_engine in committed["ratios"].values():
        assert len(of_engine) == plan["groups"] * plan["processes"]
        assert {len(pairs) for pairs in of_engine} == {script.PAIRS}
    assert script.text(found) in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_what_was_measured(committed: dict[str, Any]) -> None:
    page = ROOT / "dpbench" / "measurement" / "README.md"
    flat = " ".join(page.read_text(encoding="utf-8").split())
    one, several, _ = (row for row in script.read(committed) if row.engine == "fused")
    assert (
        f"the median ratio of `fused` was {one.least:.3f} to {one.most:.3f} in "
        f"{one.intervals} processes. Their median lay in {one.covered} of the {one.intervals} "
        f"intervals over the pairs of one process, and in {several.covered} of the "
        f"{several.intervals} over six processes"
    ) in flat
    share = f"{committed['pairs_alone']} of the {committed['pairs']} pairs"
    assert share in (FOLDER / "README.md").read_text(encoding="utf-8")
