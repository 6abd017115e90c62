"""The command as a user types it."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import here
import pandas as pd
import pyarrow as pa
import pytest
from factories import ROOT, WHERE, make_trial
from interpreters import imports_torch

from dpbench import compare, store
from dpbench.analysis.comparison.stores import compare_stores
from dpbench.observations import Epoch, StepTiming
from dpbench.privacy import accounting
from dpbench.store import files
from dpbench.trial import Trial

QUICK = ROOT / "results" / "mnist-quick"
SEEDS = range(10)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def drawn() -> None:
    """For tests that look at figures."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are empty in all other tests: rendering takes most of a comparison's time."""
    with nullcontext() if "drawn" in request.fixturenames else here.blank_figures():
        yield


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


@pytest.mark.usefixtures("drawn")
def test_a_store_against_itself_is_no_regression(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(QUICK), str(QUICK)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "checked 22 of 22 arms, 14 of 14 timings, 18 of 18 epsilons"
    assert "No regression." in said
    assert "MISSING" not in said
    assert "fused, all 18 arms" in said
    assert "22 of 22 arms reach the same accuracy" in said
    assert "only a collapse is seen" in said  # of one seed
    assert "implementation" not in said
    assert len(said.splitlines()) < 70
    assert max(map(len, said.splitlines()[:40])) <= 80  # the tables
    assert "18 of 18 arms spend the same epsilon" in said
    figures = Path("results") / "mnist-quick-mnist-quick"
    assert (figures / "differences.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (figures / "differences.svg").read_text(encoding="utf-8")


def of_many_seeds(name: str, seeds: Sequence[int] = SEEDS) -> Path:
    """A store of two arms, of so many seeds each."""
    trials = {
        make_trial(max_grad_norm=clip, seed=seed): replace(
            ok(0.9 + (7 * seed % 10) / 5_000), steps=22, sample_rate=64 / 1437
        )
        for clip in (0.5, 1.0)
        for seed in seeds
    }
    make_store(name, trials)
    return Path(name)


PLANTED = {
    "accuracy over seeds": (None, "trials", "test_accuracy", 0.99, "accuracy -0."),
    "accuracy over arms": (QUICK, "trials", "test_accuracy", 0.97, "fused, all 18 arms: accuracy"),
    "overhead": (QUICK, "timings", "seconds_per_step", 2.5, "overhead ratio"),
    "epsilon": (None, "trials", "sample_rate", 1.01, "epsilon"),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_regression_is_exit_code_3(
    planted: tuple[Path | None, str, str, float, str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, folder, column, factor, line = planted
    source = whole or of_many_seeds("before")
    after = changed(source, folder, column, factor)
    assert compare.main([str(source), str(after)]) == 3
    said = capsys.readouterr().out.splitlines()
    assert any(text.startswith("REGRESSION") and line in text for text in said)
    assert compare.main([str(after), str(source)]) == 0  # the other way round it is better


def test_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    after = changed(QUICK, "timings", "seconds_per_step", 2.5)
    assert compare.main([str(QUICK), str(after), "--json", "--headroom", "1.2"]) == 3
    printed = capsys.readouterr()
    assert printed.err.startswith("checked 22 of 22 arms")
    said = json.loads(printed.out)
    assert list(said)[:2] == ["verdict", "checked"]
    assert said["verdict"] == "regression"
    assert said["checked"]["timings"] == {"checked": 14, "in_part": 0, "of": 14}
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
    said = capsys.readouterr().out
    assert "epochs 1: seed 0 was ok, and fails now (crashed): out of luck" in said
    assert said.startswith("checked 1 of 1 arms, 0 of 0 timings, 0 of 1 epsilons")


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
    assert compare.main(["before", "same"]) == 3
    said = capsys.readouterr().out
    assert said.startswith("checked 0 of 1 arms, 0 of 0 timings, 1 of 1 epsilons")
    assert "MISSING opacus-hooks noise 1 clip 1 batch 64 lr 0.1 epochs 1: AFTER has none of" in said
    assert compare.main(["before", "same", "--allow-missing"]) == 0
    assert "No accuracies are compared" in capsys.readouterr().out
    assert compare.main(["before", "after"]) == 3
    assert "epsilon 2 -> 5" in capsys.readouterr().out


def test_an_engine_that_another_stands_in_for_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(): ok(0.9)}, [2.0] * 6)
    make_store("after", {make_trial(): ok(0.9)}, [2.0] * 6, by="bookkeeping")
    assert compare.main(["before", "after"]) == 0
    _, _, rest = capsys.readouterr().out.partition("implementation of opacus-hooks")
    assert rest.split()[:3] == ["before:", "opacus-hooks", "after:"]


def text(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit code and the lines on stdout."""
    code = compare.main(arguments)
    return code, capsys.readouterr().out.splitlines()


def test_what_is_timed_no_more_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(): ok(0.9)}, [2.0] * 6)
    make_store("after", {make_trial(): ok(0.9)})
    code, said = text(["before", "after"], capsys)
    assert code == 3
    assert said[0] == "checked 1 of 1 arms, 0 of 1 timings, 1 of 1 epsilons"
    assert "MISSING opacus-hooks batch 64 on cpu: AFTER has no such timing" in said
    why = "Missing in after, and not checked: 1 timing"
    assert f"{why}. --allow-missing lets that pass." in said
    code, said = text(["before", "after", "--allow-missing"], capsys)
    assert code == 0
    assert said[0] == "checked 1 of 1 arms, 0 of 1 timings, 1 of 1 epsilons"
    assert f"No regression. {why} (--allow-missing)." in said


def test_timings_without_any_trial_are_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(QUICK, "after")
    for path in Path("after/trials").iterdir():
        path.unlink()
    code, said = text([str(QUICK), "after"], capsys)
    assert code == 3
    assert said[0] == "checked 0 of 22 arms, 14 of 14 timings, 0 of 18 epsilons"
    assert "MISSING all 22 arms: AFTER has no trial of them" in said


def test_other_settings_everywhere_are_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [make_trial(max_grad_norm=clip, epochs=20) for clip in (0.5, 1.0)]
    make_store("before", {trial: replace(ok(0.9), epoch=20) for trial in trials}, [2.0] * 6)
    shorter = [replace(trial, epochs=5) for trial in trials]
    make_store("after", {trial: replace(ok(0.9), epoch=5) for trial in shorter}, [2.0] * 6)
    code, said = text(["before", "after"], capsys)
    assert code == 3
    assert said[0] == "checked 0 of 2 arms, 1 of 1 timings, 0 of 2 epsilons"
    assert "MISSING all 2 arms: AFTER has no trial of the same epochs" in said


def test_an_arm_of_which_seeds_are_missing_is_checked_in_part(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trials = [make_trial(max_grad_norm=clip, seed=seed) for clip in (0.5, 1.0) for seed in range(3)]
    make_store("before", dict.fromkeys(trials, ok(0.9)))
    make_store("after", dict.fromkeys(trials[:4], ok(0.9)))
    code, said = text(["before", "after"], capsys)
    assert code == 3
    assert said[0] == "checked 1 of 2 arms and 1 in part, 0 of 0 timings, 2 of 2 epsilons"
    (line,) = (each for each in said if each.startswith("MISSING"))
    assert line.endswith("clip 1 batch 64 lr 0.1 epochs 1: AFTER lacks 2 of its 3 seeds (1, 2)")
    assert text(["before", "after", "--allow-missing"], capsys)[0] == 0
    code, said = text(["after", "before"], capsys)  # more than there was is no lack
    assert (code, said[0][:21]) == (0, "checked 2 of 2 arms, ")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("AMD EPYC", True),
        ("AMD EPYC (family 25, model 17, stepping 1)", False),
        ("i7-9750H", False),
    ],
)
def test_a_processor_of_an_old_store_that_names_no_model_is_told(
    name: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store("before", {}, [2.0] * 6)
    for path in Path("before/timings").iterdir():
        pd.read_parquet(path).assign(device_name=name).to_parquet(path, schema=store.TIMINGS)
    _, said = text(["before", "before"], capsys)
    line = f"{name} names no model: timings of unlike machines of that name look alike"
    assert (line in said) is told


def test_a_few_repeated_trials_of_many_are_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    of_many_seeds("before")
    of_many_seeds("after", [0])
    code, said = text(["before", "after"], capsys)
    assert code == 3
    assert said[0] == "checked 0 of 2 arms and 2 in part, 0 of 0 timings, 2 of 2 epsilons"
    (line,) = (each for each in said if each.startswith("MISSING"))
    assert "all 2 arms: AFTER lacks 9 of its 10 seeds (1, 2, 3, 4, 5, 6, 7, 8, ...)" in line


def test_a_regression_outweighs_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(): ok(0.9)}, [2.0] * 6)
    make_store("after", {make_trial(): ok(0.9, epsilon=3.0)})
    for also in ([], ["--allow-missing"]):
        assert compare.main(["before", "after", "--json", *also]) == 3
        said = json.loads(capsys.readouterr().out)
        assert said["verdict"] == "regression"
        assert [each["kind"] for each in said["missing"]] == ["timing"]


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
    assert said.out.splitlines()[0] == "checked 0 of 1 arms, 0 of 0 timings, 0 of 1 epsilons"
    assert compare.main(["before", "after", "--allow-missing", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["verdict"] == "nothing-to-compare"


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
    (line,) = said.out.splitlines()
    assert line.startswith("checked 0 of ")
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


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("device_name", "another", "other device_name: {} before, another after"),
        ("threads", 2, "other threads: 1 before, 2 after"),
        ("dataset", "mnist", "other dataset: digits before, mnist after"),
        ("physical_batch_size", 64, "other physical_batch_size: 512 before, 64 after"),
        ("device", "cuda:0", "other device: cpu before, cuda:0 after"),
    ],
)
def test_timings_in_another_way_are_not_checked_and_it_says_why(
    column: str, value: object, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store("before", {make_trial(): ok(0.9)}, [2.0] * 6)
    shutil.copytree("before", "after")
    for path in Path("after/timings").iterdir():
        frame = pd.read_parquet(path).assign(**{column: value})
        frame.reindex(columns=store.TIMINGS.names).to_parquet(path, schema=store.TIMINGS)
    code, said = text(["before", "after"], capsys)
    assert code == 3
    assert said[0] == "checked 1 of 1 arms, 0 of 1 timings, 1 of 1 epsilons"
    (line,) = (each for each in said if each.startswith("MISSING"))
    assert line.endswith(why.format(WHERE.device_name))
    assert text(["before", "after", "--allow-missing"], capsys)[0] == 0


def test_files_for_a_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(): ok(0.9), make_trial(seed=1): ok(0.9)}, [2.0] * 6)
    make_store("after", {make_trial(): ok(0.9, epsilon=3.0)}, [2.0] * 6)
    asked = "--markdown ci/new/summary.md --junit ci/new/junit.xml --json ci/new/all.json".split()
    code, said = text(["before", "after", *asked], capsys)
    assert code == 3
    assert said[0] == "checked 0 of 1 arms and 1 in part, 1 of 1 timings, 1 of 1 epsilons"
    folder = Path("ci/new")
    assert sorted(path.name for path in folder.iterdir()) == ["all.json", "junit.xml", "summary.md"]
    assert (folder / "all.json").read_text(encoding="utf-8").startswith('{\n  "verdict": "regr')
    markdown = (folder / "summary.md").read_text(encoding="utf-8")
    assert markdown.splitlines()[:3] == ["## Regression", "", f"{said[0]}."]
    root = ElementTree.parse(folder / "junit.xml").getroot()  # noqa: S314  # our own
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "2", "0")


def test_json_to_stdout_is_one_object_wherever_the_flag_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_store("before", {make_trial(): ok(0.9)})
    for asked in ("--json before before", "before before --json", "before before --json -"):
        assert compare.main(asked.split()) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["verdict"] == "no-regression"
        assert said.err.startswith("checked 1 of 1 arms")
    assert sorted(path.name for path in Path().iterdir()) == ["before", "results"]


@pytest.mark.parametrize("flag", ["--markdown", "--junit", "--json"])
def test_a_file_that_cannot_be_written_is_one_line(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store("before", {make_trial(): ok(0.9)})
    Path("file").touch()
    Path("folder").mkdir()
    for path in ("file/under", "folder"):
        if (flag, path) == ("--json", "folder"):
            continue  # which it takes for a store
        assert compare.main(["before", "before", flag, path]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"python -m dpbench.compare: Cannot write {path}: ")


def test_what_is_no_file_is_not_replaced_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(): ok(0.9)})
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert compare.main(["before", "before", "--markdown", "pipe"]) == 0
    assert os.read(reader, 100).startswith(b"## No regression")
    os.close(reader)
    assert Path("pipe").is_fifo()


def test_many_arms_that_differ_are_a_table_of_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    make_store("before", {make_trial(max_grad_norm=0.1 * clip): ok(0.9) for clip in range(1, 73)})
    after = changed(Path("before"), "trials", "test_accuracy", 0.9999)
    assert compare.main(["before", str(after)]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 200  # two lines a row, to fit a terminal
    assert "33 more arms differ" in said  # of 72 and their engine, 40 are shown


def test_comparing_does_not_import_torch(tmp_path: Path) -> None:
    call = f"import dpbench.compare; dpbench.compare.main([{str(QUICK)!r}, {str(QUICK)!r}])"
    assert not imports_torch(call, tmp_path)


def test_an_older_accountant_is_no_change_of_privacy(tmp_path: Path) -> None:
    """The same trials, accounted for by PRV before and by PLD after, and the other way round."""
    old = ROOT / "results" / "mnist-quick"
    rows = store.read_trials(old)
    if rows["dp_accounting_version"].notna().any():
        rows["dp_accounting_version"] = None
    few = rows[rows["epoch"] == rows["epochs"]].assign(epochs=1, epoch=1)
    before, after = tmp_path / "before", tmp_path / "after"
    for root, frame in ((before, few), (after, accounting.by_one_accountant(few))):
        store.create(root)
        for _, trial in frame.groupby("trial_id"):
            table = pa.Table.from_pandas(trial, schema=store.TRIALS, preserve_index=False)
            files.write(root, root / "trials" / f"{trial['trial_id'].iloc[0]}.parquet", table)
    for one, other in ((before, after), (after, before)):
        found = compare_stores(one, other, tolerance=0.002, headroom=1.5)
        assert found.regressions == ()
        assert (found.epsilon["epsilon_before"] == found.epsilon["epsilon_after"]).all()
        assert len(found.epsilon) == 18
