"""The command as a user types it."""

import html
import json
import shlex
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path

import here
import pandas as pd
import pytest
from factories import make_trial

from dpbench import store, timing
from dpbench.execution import backend, local, timing_sweep, timing_task
from dpbench.observations import StepTiming
from dpbench.store import history
from dpbench.trial import Workload

QUICK = "--dataset digits --batch-size 64 --processes 2 --pairs 3 --device cpu".split()


@pytest.mark.slow  # test_api takes a real timing; below, rows are told that are planted
def test_one_object_and_the_raw_times_in_a_store(tmp_path: Path) -> None:
    typed = [*QUICK, "--engine", "opacus-hooks", "non-private", "--json"]
    done = here.run(timing.main, *typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["schema_version"] == store.SCHEMA_VERSION
    assert [row["engine"] for row in said["rows"]] == ["non-private", "opacus-hooks"]
    row = said["rows"][1]
    assert {"engine", "batch_size", "device", "examples_per_second", "pairs"} <= set(row)
    assert row["overhead_ratio_low"] <= row["overhead_ratio"] <= row["overhead_ratio_high"]
    assert row["peak_memory_bytes"] > 0
    raw = pd.read_parquet(tmp_path / "results" / "digits-timing" / "timings")
    assert len(raw) == 2 * 2 * 3
    assert (row["processes"], row["pairs"]) == (2, 6)
    own = raw[raw["engine"] == "opacus-hooks"]
    ratios = own["seconds_per_step"] / own["baseline_seconds_per_step"]
    of_each = ratios.groupby(own["process"]).median()
    assert row["overhead_ratio"] == of_each.median()
    assert (row["overhead_ratio_low"], row["overhead_ratio_high"]) == (of_each.min(), of_each.max())


def planted(alone: bool) -> list[list[dict[str, object]]]:
    """Rows of one timing in each of two processes, twice the baseline's time."""
    from factories import WHERE

    from dpbench import store

    def row(process: int, pair: int) -> dict[str, object]:
        return store.timing_row(
            StepTiming(
                dataset="digits",
                model="tutorial-cnn",
                engine="opacus-hooks",
                batch_size=64,
                pair=pair,
                order="engine-first",
                steps=3,
                seconds_per_step=0.02,
                baseline_seconds_per_step=0.01,
                peak_memory_bytes=None,
                alone=alone or pair > 0,
                process=process,
            ),
            WHERE,
        )

    return [[row(process, pair) for pair in range(3)] for process in range(2)]


@pytest.mark.parametrize("alone", [True, False])
def test_a_row_that_was_not_alone_is_marked(
    alone: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def planted_rows(*_: object, **__: object) -> Generator[list[dict[str, object]]]:
        yield from planted(alone)

    monkeypatch.setattr(timing_task, "time_engines", planted_rows)
    assert timing.main([*QUICK, "--engine", "opacus-hooks", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    (line,) = (line for line in said.out.splitlines() if line.startswith("opacus-hooks"))
    assert "2.000  [2.000, 2.000]" in line  # two digits would not tell the ends apart
    assert line.split()[-2:] == ["-", "6/2" if alone else "6/2*"]
    assert "timed in one process" not in said.out
    assert ("while other processes ran" in said.err) is not alone


def test_a_store_remembers_the_command_and_keeps_the_times_of_two_datasets_and_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted_for(
        engines: Sequence[str], workload: Workload, *_: object, **__: object
    ) -> Generator[list[dict[str, object]]]:
        for engine in engines:
            asked = {"engine": engine, **asdict(workload)}
            for rows in planted(alone=True):
                yield [row | asked for row in rows]

    monkeypatch.setattr(timing_task, "time_engines", planted_for)
    monkeypatch.setattr(timing_task, "TIMED_PROCESSES", 2)
    typed = [*QUICK, "--engine", "opacus-hooks", "--out", str(tmp_path)]
    assert timing.main(typed) == 0
    (record,) = history.read(tmp_path)
    assert record.command == shlex.join(["python", "-m", "dpbench.timing", *typed])
    assert record.command in html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    place = local.LocalBackend(
        backend.Workers(
            data_root=tmp_path, devices=("cpu",), jobs=1, threads=1, physical_batch_size=256
        )
    )
    timing_sweep.run_timings([make_trial(dataset="mnist")], place, tmp_path, quiet=True)
    timing_sweep.run_timings([make_trial(model="mlp")], place, tmp_path, quiet=True)
    timings = store.read_timings(tmp_path)
    of_hooks = timings[timings["engine"] == "opacus-hooks"]
    assert dict(of_hooks.groupby(["dataset", "model"]).size()) == {
        ("digits", "mlp"): 6,
        ("digits", "tutorial-cnn"): 6,
        ("mnist", "tutorial-cnn"): 6,
    }


def test_intervals_of_one_process_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_one(*_: object, **__: object) -> Generator[list[dict[str, object]]]:
        yield planted(alone=True)[0]

    monkeypatch.setattr(timing_task, "time_engines", of_one)
    typed = [*QUICK, "--processes", "1", "--engine", "opacus-hooks", "--out", str(tmp_path)]
    assert timing.main(typed) == 0
    caveat = "1 of 1 overheads were timed in one process"
    assert caveat in capsys.readouterr().out
    assert caveat in html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))


BAD = {
    "engine": ("--engine opacus-host", "'opacus-host' to be one of non-private"),
    "pairs": ("--pairs 0", "pairs=0 >= 1"),
    "processes": ("--processes 0", "processes=0 >= 1"),
    "large batch": ("--batch-size 5000", "batch_size=5000 <= 1,437"),
    "no batch": ("--batch-size 0", "batch_size=0 >= 1"),
    "model": ("--model mpl", "Unknown model 'mpl': did you mean mlp?"),
    "device": ("--device tpu", "device='tpu' to be auto, cpu, cuda"),
    "out": ("--out blocked/results", "Cannot write results to blocked/results"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_with_the_value(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("blocked").touch()
    assert timing.main(["--dataset", "digits", *arguments.split()]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == [tmp_path / "blocked"]


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    from interpreters import imports_torch

    assert not imports_torch("import dpbench.timing; dpbench.timing.main(['--help'])", tmp_path)
