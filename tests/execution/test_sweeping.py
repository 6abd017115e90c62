"""What a sweep does while its trials run."""

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import here
import pytest
from factories import WHERE, make_trial, make_workload
from remote_work import out_of_memory

from dpbench import store, sweep
from dpbench.analysis import step_overhead
from dpbench.errors import BadInput
from dpbench.execution import (
    backend,
    local,
    plan,
    timing_plan,
    timing_sweep,
    timing_task,
    trial_task,
)
from dpbench.measurement import environment
from dpbench.observations import StepTiming
from dpbench.reporting import store_report
from dpbench.trial import Workload


class Timer(local.LocalBackend):
    """Times nothing, and says that it took the number of threads."""

    def time_engines(
        self, engines: Sequence[str], workload: Workload
    ) -> Generator[list[dict[str, Any]]]:
        began = {"started_at": datetime.now(UTC)}
        for process in range(timing_task.TIMED_PROCESSES):
            for engine in engines:
                yield [self.row(engine, workload, process) | began]

    def row(self, engine: str, workload: Workload, process: int | None = 0) -> dict[str, Any]:
        timing = StepTiming(
            dataset=workload.dataset,
            model=workload.model,
            engine=engine,
            batch_size=workload.batch_size,
            pair=0,
            order="engine-first",
            steps=3,
            seconds_per_step=float(self.workers.threads),
            baseline_seconds_per_step=1.0,
            peak_memory_bytes=None,
            alone=True,
            process=process,
        )
        now = environment.describe(
            implementation=engine,
            device="cpu",
            threads=self.workers.threads,
            memory_format="contiguous",
            physical_batch_size=self.workers.physical_batch_size,
            workers_beside=0,
        )
        return store.timing_row(timing, now)


def timer(threads: int = 1, physical_batch_size: int = 256) -> Timer:
    return Timer(
        backend.Workers(
            data_root=Path("unused"),
            devices=("cpu",),
            jobs=1,
            threads=threads,
            physical_batch_size=physical_batch_size,
        )
    )


def test_an_engine_without_a_step_for_the_model_is_not_timed() -> None:
    """Bookkeeping would compute it, and is timed itself."""
    trials = [make_trial("bookkeeping", model="mlp")]
    names = {engine for engine, _ in plan.timed(trials)}
    assert "fused" not in names
    assert {"non-private", "bookkeeping", "opacus-hooks"} <= names
    assert "fused" in {engine for engine, _ in plan.timed([make_trial("fused", model="mlp")])}
    assert "fused" in {engine for engine, _ in plan.timed([make_trial()])}
    of_mlp = timing_plan.plan_timings(dataset="digits", model="mlp").engines
    assert "fused" not in of_mlp
    assert "fused" in timing_plan.plan_timings(dataset="digits").engines


def timings_of(out: Path) -> set[tuple[int, int]]:
    frame = store.read_timings(out)
    found = frame[["threads", "physical_batch_size"]].drop_duplicates()
    assert (frame["seconds_per_step"] == frame["threads"]).all()
    return set(found.itertuples(index=False, name=None))


def test_what_is_timed_otherwise_is_timed_anew_beside_it(tmp_path: Path) -> None:
    trials = [make_trial()]
    count = len(plan.timed(trials))
    store.create(tmp_path)
    ways = [timer(), timer(threads=2), timer(physical_batch_size=64)]
    for place in ways:
        assert timing_sweep.run_timings(trials, place, tmp_path, quiet=True) == []
    assert timings_of(tmp_path) == {(1, 256), (2, 256), (1, 64)}
    files = {path: path.read_bytes() for path in (tmp_path / "timings").iterdir()}
    assert len(files) == 3 * count
    for place in ways:  # all are there
        timing_sweep.run_timings(trials, place, tmp_path, quiet=True)
        assert {path: path.read_bytes() for path in (tmp_path / "timings").iterdir()} == files


@pytest.mark.parametrize("name", ["device_name", "torch_version", "opacus_version"])
def test_what_another_machine_or_version_has_timed_is_timed_anew(name: str, tmp_path: Path) -> None:
    trials = [make_trial()]
    store.create(tmp_path)
    there = [timer().row("fused", make_workload()) | {name: "another"}]
    store.write_timings(tmp_path, timing_sweep.timing_name("fused", make_workload(), "cpu"), there)
    timing_sweep.run_timings(trials, timer(), tmp_path, quiet=True)
    of_fused = store.read_timings(tmp_path).query("engine == 'fused'")
    assert of_fused[name].eq("another").sum() == 1
    assert of_fused[name].ne("another").sum() == timing_task.TIMED_PROCESSES


@pytest.mark.parametrize(
    "processes", [[None], [0, 1, 2]], ids=["an older version's", "too few processes"]
)
def test_what_was_timed_in_fewer_processes_is_timed_anew(
    processes: list[int | None], tmp_path: Path
) -> None:
    trials = [make_trial()]
    store.create(tmp_path)
    rows = [timer().row("fused", make_workload(), process) for process in processes]
    store.write_timings(tmp_path, timing_sweep.timing_name("fused", make_workload(), "cpu"), rows)
    known = store.read_timings(tmp_path)
    assert len(step_overhead.overhead(known)) == 1  # it is shown until then
    assert plan.untimed(trials, known, {}) == plan.timed(trials)
    timing_sweep.run_timings(trials, timer(), tmp_path, quiet=True)
    known = store.read_timings(tmp_path)
    assert set(step_overhead.overhead(known)["processes"]) == {timing_task.TIMED_PROCESSES}
    assert plan.untimed(trials, known, {}) == []


def test_a_timing_measured_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """Whatever name its file has by then, and with others beside it."""
    store.create(tmp_path)
    name = timing_sweep.timing_name("fused", make_workload(), "cpu")
    for place in (timer(), timer(threads=2)):
        store.write_timings(tmp_path, name, [place.row("fused", make_workload())])
    folder = tmp_path / "timings"
    for path in list(folder.iterdir()):
        path.rename(path.with_name(f"{path.stem}-g1.parquet"))  # as an older dpbench
    store.create(tmp_path)
    before = {path.name for path in folder.iterdir()}
    for place in (timer(), timer(threads=2)):
        row = place.row("fused", make_workload())
        store.write_timings(tmp_path, name, [row | {"steps": 99}])
    assert {path.name for path in folder.iterdir()} == before
    assert store.read_timings(tmp_path)["steps"].tolist() == [99, 99]
    assert len(store.read_timings(tmp_path)) == 2


def test_a_copy_of_a_timing_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(tmp_path)
    name = timing_sweep.timing_name("fused", make_workload(), "cpu")
    store.write_timings(tmp_path, name, [timer().row("fused", make_workload())])
    own = tmp_path / "timings" / f"{name}.parquet"
    assert len(store.read_timings(tmp_path)) == 1
    assert caplog.text == ""
    copy = own.with_name(f"{name} (copy).parquet")
    copy.write_bytes(own.read_bytes())
    assert len(store.read_timings(tmp_path)) == 1
    assert f"{copy} repeats what is there: 1 rows" in caplog.text
    later = timer().row("fused", make_workload())
    store.write_timings(tmp_path, name, [later | {"steps": 99}])
    assert store.read_timings(tmp_path)["steps"].tolist() == [99]  # and not the copy's


class Failing(Timer):
    """Times nothing; one engine fails in its second process."""

    def time_engines(
        self, engines: Sequence[str], workload: Workload
    ) -> Generator[list[dict[str, Any]]]:
        for (row,) in super().time_engines(engines, workload):
            if row["engine"] != "opacus-ew" or row["process"] == 0:
                yield [row]
            elif row["process"] == 1:
                yield [self.failed("opacus-ew", workload)]

    def failed(self, engine: str, workload: Workload) -> dict[str, Any]:
        seen = trial_task.failure(0, RuntimeError("no such kernel"))
        timing = timing_task.Timing(engine=engine, workload=workload, workers=self.workers)
        return timing_task.failed_row(timing, seen)


def test_a_timing_that_fails_is_recorded_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Failing(timer().workers)
    trials = [make_trial()]
    engines = ("opacus-ew", "fused")
    monkeypatch.setattr(plan, "timed", lambda _: [(each, make_workload()) for each in engines])
    store.create(tmp_path)
    (line,) = timing_sweep.run_timings(trials, place, tmp_path, quiet=False)
    why = "opacus-ew batch 64 on cpu: failed: RuntimeError: no such kernel"
    assert line == f"The timing of {why}"
    (said,) = capsys.readouterr().err.splitlines()
    processes = f"{2 * timing_task.TIMED_PROCESSES}/{2 * timing_task.TIMED_PROCESSES}"
    assert said.startswith(f"[2/2 timings, 1 failed, {processes} processes (100 %), took ")
    assert said.endswith(f"failed: {why}")
    assert set(store.read_timings(tmp_path)["engine"]) == {"fused"}  # no ratio is read off it
    (row,) = store.failed_timings(tmp_path).to_dict("records")
    assert (row["engine"], row["status"]) == ("opacus-ew", "failed")
    assert store_report.write_report(tmp_path) is not None
    # a failure takes the place of no measurement
    store.write_timings(tmp_path, "digits-fused-64-cpu", [place.failed("fused", make_workload())])
    assert set(store.read_timings(tmp_path)["engine"]) == {"fused"}
    assert timing_sweep.run_timings(trials, timer(), tmp_path, quiet=True) == []
    assert len(store.read_timings(tmp_path)) == 2 * timing_task.TIMED_PROCESSES
    assert store.failed_timings(tmp_path).empty


def with_its_number(timing: timing_task.Timing, process: int) -> Iterator[Any]:
    """The rows of a timing, with the process' id; each engine has a fault of its own."""
    if timing.engine == "opacus-ew" and process == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if timing.engine == "bookkeeping":
        yield from out_of_memory(timing, process)
        return
    for row in timing_task._task(timing, process):
        yield row | {"steps": os.getpid()}


@pytest.mark.slow  # six processes; test_api takes a real timing
def test_engines_are_timed_in_fresh_processes_and_a_dead_one_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engines: tuple[str, ...] = ("bookkeeping", "opacus-ew", "fused")
    monkeypatch.setattr(timing_task, "_task", with_its_number)  # the processes have the old one
    found = list(
        timing_task.time_engines(engines, make_workload(), timer().workers, processes=2, pairs=2)
    )
    assert [(rows[0]["engine"], rows[0]["status"]) for rows in found] == [
        ("bookkeeping", "out-of-memory"),
        ("opacus-ew", "ok"),
        ("fused", "ok"),
        ("opacus-ew", "crashed"),
        ("fused", "ok"),
    ]
    assert found[3][0]["reason"] == "the process that timed it died: killed by SIGKILL"
    fused = [row for rows in found for row in rows if row["engine"] == "fused"]
    assert [(row["process"], row["pair"]) for row in fused] == [
        (process, pair) for process in range(2) for pair in range(2)
    ]
    assert len({row["steps"] for row in fused}) == 2
    assert os.getpid() not in {row["steps"] for row in fused}
    assert len({row["started_at"] for row in fused}) == 1  # one timing, for `timed_alike`
    assert len({row["peak_memory_bytes"] for row in fused}) == 1
    assert fused[0]["peak_memory_bytes"] > 0


@pytest.mark.slow  # test_sweep shows it before anything runs
def test_a_dataset_that_no_timing_can_read_is_bad_input(tmp_path: Path) -> None:
    workers = replace(timer().workers, data_root=tmp_path)
    with pytest.raises(BadInput, match="Cannot load dataset=kmnist"):
        list(timing_task.time_engines(["fused"], make_workload(dataset="kmnist"), workers))


def test_a_sweep_whose_timings_fail_has_a_report_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing_task, "_task", out_of_memory)
    typed = "--dataset digits --batch-size 64 --noise-multiplier 1 --max-grad-norm 1 --epochs 1"
    typed += f" --no-baseline --device cpu --jobs 1 --out {tmp_path}"
    with here.trials_here(), here.blank_figures():  # its timings are taken in other processes
        assert sweep.main(typed.split()) == 1
    said = capsys.readouterr()
    assert (tmp_path / "report.html").is_file()
    assert "The timing of fused batch 64 on cpu: out-of-memory: MemoryError" in said.err
    assert "Traceback" not in said.err
    assert store.states(tmp_path).popitem()[1] == "ok"


def test_a_report_is_of_the_timings_of_one_way(tmp_path: Path) -> None:
    store.create(tmp_path)
    trials = [make_trial()]
    for place in (timer(), timer(threads=2)):
        timing_sweep.run_timings(trials, place, tmp_path, quiet=True)
    old = timer(threads=2).row("fused", make_workload())
    old |= {"torch_version": "1.0", "started_at": WHERE.started_at.replace(year=2020)}
    store.write_timings(tmp_path, "digits-fused-64-cpu", [old])
    written = store_report.write_report(tmp_path)
    assert written is not None
    numbers = (tmp_path / "overhead.csv").read_text(encoding="utf-8").splitlines()
    ratios = {line.split(",")[numbers[0].split(",").index("overhead_ratio")] for line in numbers}
    assert ratios == {"overhead_ratio", "2.0"}  # of the latest, and not a median of both
    page = written.page.read_text(encoding="utf-8")
    count = len(plan.timed(trials)) * timing_task.TIMED_PROCESSES + 1
    assert f"{count} timed pairs were measured otherwise" in page
    assert "1 thread(s)" in page
