"""The command as a user types it."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import make_trial
from test_store import WHERE
from test_sweep import imports_torch

from dpbench import compare, store
from dpbench.trial import Epoch, StepTiming, Trial

ROOT = Path(__file__).parent.parent
QUICK = ROOT / "results" / "mnist-quick"
TABLE = ROOT / "results" / "opacus-table"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ok(accuracy: float | None, epsilon: float | None = 2.0) -> Epoch:
    return Epoch(epoch=1, test_accuracy=accuracy, epsilon=epsilon, accountant="prv")


def bad(reason: str) -> Epoch:
    return Epoch(epoch=1, status="failed", reason=reason)


def make_store(
    name: str, trials: Mapping[Trial, Epoch], ratios: Sequence[float] = (), by: str = "opacus-hooks"
) -> None:
    """A store of trials of one epoch, and of one timing by that implementation."""
    root, where = Path(name), replace(WHERE, implementation=by)
    store.create(root)
    for trial, seen in trials.items():
        store.write_trial(root, [store.trial_row(trial, seen, where)])
    timings = [
        StepTiming(
            dataset="digits",
            model="tutorial-cnn",
            engine="opacus-hooks",
            batch_size=64,
            pair=pair,
            order="engine-first",
            steps=4,
            seconds_per_step=ratio / 100,
            baseline_seconds_per_step=0.01,
            peak_memory_bytes=None,
            alone=True,
        )
        for pair, ratio in enumerate(ratios)
    ]
    if timings:
        store.write_timings(root, "timed", [store.timing_row(timing, where) for timing in timings])


def changed(source: Path, folder: str, column: str, factor: float) -> Path:
    """A copy of the store in which the private rows' column is multiplied."""
    after = Path("results") / "after"
    shutil.copytree(source, after)
    for path in (after / folder).iterdir():
        frame = pd.read_parquet(path)
        if not frame["engine"].str.contains("non-private").any():
            frame[column] *= factor
            # as the store writes it: one schema, whatever the file holds
            schema = store.TIMINGS if folder == "timings" else store.TRIALS
            frame.reindex(columns=schema.names).to_parquet(path, schema=schema)
    return after


def test_a_store_against_itself_is_no_regression(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(QUICK), str(QUICK)]) == 0
    said = capsys.readouterr().out
    assert "No regression." in said
    assert "fused, all 18 arms" in said
    assert "20 of 20 arms reach the same accuracy" in said
    assert "only a collapse is seen" in said  # of one seed
    assert "implementation" not in said
    assert len(said.splitlines()) < 50
    assert "18 of 18 arms spend the same epsilon" in said
    drawn = Path("results") / "mnist-quick-mnist-quick"
    assert (drawn / "differences.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (drawn / "differences.svg").read_text(encoding="utf-8")


PLANTED = {
    "accuracy over seeds": (TABLE, "trials", "test_accuracy", 0.99, "accuracy -0."),
    "accuracy over arms": (QUICK, "trials", "test_accuracy", 0.97, "fused, all 18 arms: accuracy"),
    "overhead": (QUICK, "timings", "seconds_per_step", 2.5, "overhead ratio"),
    "epsilon": (TABLE, "trials", "epsilon", 1.00001, "epsilon"),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_regression_is_exit_code_3(
    planted: tuple[Path, str, str, float, str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder, column, factor, line = planted
    after = changed(source, folder, column, factor)
    assert compare.main([str(source), str(after)]) == 3
    said = capsys.readouterr().out.splitlines()
    assert any(text.startswith("REGRESSION") and line in text for text in said)
    assert compare.main([str(after), str(source)]) == 0  # the other way round it is better


def test_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    after = changed(QUICK, "timings", "seconds_per_step", 2.5)
    assert compare.main([str(QUICK), str(after), "--json", "--headroom", "1.2"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["schema_version"] == store.SCHEMA_VERSION
    assert said["comparable"]
    assert len(said["regressions"]) == 12  # six private engines at two batch sizes
    assert {row["what"] for row in said["versions"]} >= {"torch_version", "opacus_version"}
    assert said["accuracy"][0]["low"] is None  # one seed: no interval
    assert said["accuracy"][0].keys() >= {"arms", "pairs", "seeds", "difference", "p_value"}


def test_a_trial_that_fails_now_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(): ok(0.9)})
    make_store("after", {make_trial(): replace(bad("out of\nluck"), status="crashed")})
    assert compare.main(["before", "after"]) == 3
    assert "was ok, and fails now (crashed): out of luck" in capsys.readouterr().out


def test_an_accuracy_that_is_lost_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [make_trial(seed=seed) for seed in range(3)]
    make_store("before", dict.fromkeys(trials, ok(0.9)))
    make_store("after", dict(zip(trials, map(ok, (0.9, math.nan, None)), strict=True)))
    assert compare.main(["before", "after", "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert len(said["regressions"]) == 2
    assert [row["seeds"] for row in said["accuracy"]] == [1]


def test_timings_alone_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {}, [2.0, 2.1, 2.2])
    make_store("after", {}, [5.0, 5.1, 5.2])
    assert compare.main(["before", "before"]) == 0
    assert compare.main(["before", "after"]) == 3
    assert "REGRESSION opacus-hooks batch 64 on cpu: overhead" in capsys.readouterr().out


def test_epsilons_need_no_seed_in_common(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(seed=0): ok(0.9)})
    make_store("same", {make_trial(seed=1): ok(0.9)})
    make_store("after", {make_trial(seed=1): ok(0.9, epsilon=5.0)})
    assert compare.main(["before", "same"]) == 0
    assert "No accuracies are compared" in capsys.readouterr().out
    assert compare.main(["before", "after"]) == 3
    assert "epsilon 2 -> 5" in capsys.readouterr().out


def test_an_engine_that_another_stands_in_for_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(): ok(0.9)}, [2.0] * 6)
    make_store("after", {make_trial(): ok(0.9)}, [2.0] * 6, by="bookkeeping")
    assert compare.main(["before", "after"]) == 0
    (line,) = (each for each in capsys.readouterr().out.splitlines() if "implementation" in each)
    assert line.split() == "implementation of opacus-hooks opacus-hooks bookkeeping changed".split()


def test_what_is_timed_no_more_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(): ok(0.9)}, [2.0] * 6)
    make_store("after", {make_trial(): ok(0.9)})
    assert compare.main(["before", "after"]) == 0
    assert "1 timing missing after" in capsys.readouterr().out


NOTHING = {
    "other noise": (make_trial(noise_multiplier=2.0), ok(0.9), "of the same noise_multiplier, and"),
    "another dataset": (make_trial(dataset="mnist"), ok(0.9), "of the same dataset, and no"),
    "another delta": (make_trial(delta=1e-6), ok(0.9), "no trial of the same delta, and no timing"),
    "a failed trial of another seed": (make_trial(seed=1), bad("x"), "of the same seed, and"),
}


@pytest.mark.parametrize("nothing", NOTHING.values(), ids=NOTHING.keys())
def test_nothing_in_common_is_exit_code_4(
    nothing: tuple[Trial, Epoch, str], capsys: pytest.CaptureFixture[str]
) -> None:
    trial, seen, why = nothing
    make_store("before", {make_trial(): ok(0.9)})
    make_store("after", {trial: seen})
    assert compare.main(["before", "after"]) == 4
    said = capsys.readouterr()
    assert why in said.err
    assert len(said.err.splitlines()) == 1
    assert "regression" not in said.out.lower()


def test_failures_on_both_sides_are_nothing_to_compare(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("before", "after"):
        make_store(name, {make_trial(): bad(name)})
    assert compare.main(["before", "after"]) == 4
    assert capsys.readouterr().err.endswith("compare: 1 trial failed on both sides.\n")
    make_store("mended", {make_trial(): ok(0.9)})
    assert compare.main(["before", "mended"]) == 0  # what is better now can be compared


@pytest.mark.parametrize("names", [("empty", "empty"), ("empty", "full"), ("full", "empty")])
def test_an_empty_folder_is_one_line_and_exit_code_4(
    names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    make_store("full", {make_trial(): ok(0.9)})
    assert compare.main([*names]) == 4
    said = capsys.readouterr()
    assert said.err.startswith("There is no trial and no timing in empty")
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert compare.main([*names, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["comparable"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([str(QUICK), "nowhere"], "There is no folder nowhere"),
        ([str(QUICK), str(QUICK), "--headroom", "0.5"], "headroom=0.5 >= 1"),
        ([str(QUICK), str(QUICK), "--tolerance", "-1"], "tolerance=-1.0 >= 0"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_timings_on_other_hardware_are_said_not_to_be_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    after = Path("after")
    shutil.copytree(QUICK, after)
    for path in (after / "timings").iterdir():
        pd.read_parquet(path).assign(device_name="another").to_parquet(path, schema=store.TIMINGS)
    assert compare.main([str(QUICK), str(after)]) == 0
    assert "14 timings not compared" in capsys.readouterr().out


def test_many_arms_that_differ_are_a_table_of_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    grid = ROOT / "results" / "mnist"
    assert compare.main([str(grid), str(changed(grid, "trials", "test_accuracy", 0.9999))]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 120
    assert "34 more arms differ" in said  # of 72 and two engines, 40 are shown


def test_comparing_does_not_import_torch(tmp_path: Path) -> None:
    call = f"import dpbench.compare; dpbench.compare.main([{str(QUICK)!r}, {str(QUICK)!r}])"
    assert not imports_torch(call, tmp_path)
