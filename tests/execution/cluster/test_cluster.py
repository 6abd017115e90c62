"""Sweeps through a real scheduler and real workers, which die, stall, lack things and join late."""

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import here
import pandas as pd
import psutil
import pytest
import torch
from clusters import SMALL, START_SECONDS, Processes, sweep, wait_for
from factories import make_trial, make_workload
from remote_work import out_of_memory, time_slowly, unfit_by_name, wait_a_while

from dpbench import cli, store
from dpbench import sweep as sweep_command
from dpbench.errors import BadInput
from dpbench.execution import backend, cluster, timing_task
from dpbench.execution.cluster import remote_calls
from dpbench.observations import TIMED_UNDER

SEEDS = ("--seeds", "0", "1", "2", "3", "4")
QUICK = ("--epochs", "2", "--no-timing")
LONGER = ("--epochs", "20", "--no-timing")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    environment = {
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        "FAULTS": "3=segfault",
        "FAULTS_FOLDER": str(tmp_path),
    }
    with Processes(tmp_path, environment) as started:
        yield started


def swept(
    out: Path, *flags: str, meanwhile: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Exit code and stderr of a sweep of small trials, driven from this process."""
    with ThreadPoolExecutor(max_workers=1) as thread, here.blank_figures():
        acting = thread.submit(meanwhile)
        done = here.run(sweep_command.main, *SMALL, "--out", str(out), *flags, cwd=out.parent)
        print(done.stderr)
        acting.result()
    return done.returncode, done.stderr


def ended(process: "subprocess.Popen[str]", seconds: float = 240) -> tuple[int, str]:
    _, errors = process.communicate(timeout=seconds)
    print(errors)
    return process.returncode, errors


def workers_of(folder: Path) -> backend.Workers:
    return backend.Workers(
        data_root=folder, devices=("cpu",), jobs=1, threads=1, physical_batch_size=256
    )


def rows(out: Path) -> pd.DataFrame:
    frame = pd.read_parquet(out / "trials")
    assert not frame.duplicated(["seed", "epoch"]).any()
    return frame.sort_values(["seed", "epoch"])


def files(out: Path) -> int:
    return len(list((out / "trials").glob("*.parquet")))


@pytest.mark.slow  # below, a worker goes; test_failures has poisonous trials on this machine
def test_a_worker_dies_another_joins_and_a_poisonous_trial_is_recorded(
    processes: Processes, tmp_path: Path
) -> None:
    processes.scheduler()
    first, _ = processes.worker(), processes.worker()
    wait_for_workers(processes, 2)
    out = tmp_path / "out"
    flags = ("--scheduler-file", str(processes.file), *QUICK)

    def replace_a_worker() -> None:
        wait_for(lambda: files(out) > 0)
        first.kill()  # midway in a trial
        processes.worker()

    code, errors = swept(out, *SEEDS, *flags, meanwhile=replace_a_worker)
    assert code == 1
    assert "5 trials on digits: 5 to run" in errors
    found = rows(out)
    poisonous = found["seed"] == 3
    assert found[poisonous]["status"].tolist() == ["ok", "crashed"]  # in its second epoch
    assert "killed by SIGSEGV" in found[poisonous]["reason"].iloc[-1]
    assert found[~poisonous].groupby("seed").size().tolist() == [2] * 4

    here.sweep(*SMALL, "--out", "here", *SEEDS, *QUICK, cwd=tmp_path)  # where no fault is
    alone = rows(tmp_path / "here")
    same = ["trial_id", "epoch", "test_accuracy", "test_loss", "epsilon", "steps", "examples_seen"]
    alone = alone[alone["seed"] != 3]
    pd.testing.assert_frame_equal(
        found[~poisonous][same].reset_index(drop=True),
        alone[same].reset_index(drop=True),
        check_dtype=False,  # a crashed trial's row has no steps
    )


@pytest.mark.slow  # above, a poisonous trial is told from others; here it has one beside it
def test_a_trial_is_blamed_only_with_nothing_beside_it(
    processes: Processes, tmp_path: Path
) -> None:
    processes.scheduler()
    processes.worker("--nthreads", "2")
    out = tmp_path / "out"
    flags = ("--scheduler-file", str(processes.file), *QUICK)
    wait_for_workers(processes, 1)
    code, _ = swept(out, "--seeds", "2", "3", "4", *flags)
    assert code == 1
    found = rows(out)
    crashed = found[found["status"] == "crashed"]
    assert crashed["seed"].tolist() == [3]
    assert crashed["workers_beside"].tolist() == [0]
    assert found["workers_beside"].max() == 1


@pytest.mark.slow  # below, places are told of a client, and test_store finds damaged files
def test_a_dry_run_tells_its_places_and_a_sweep_reports_a_damaged_file(
    processes: Processes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    store.create(out)
    damaged = out / "trials" / "mine.parquet"
    damaged.write_bytes(b"half of a file")
    processes.scheduler()
    processes.worker()
    wait_for_workers(processes, 1)
    flags = ("--seeds", "2", "--scheduler-file", str(processes.file), *QUICK)
    with sweep(out, *flags, "--dry-run") as running:
        planned, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "1 to run into" in planned
    assert "1 at a time, on 1 workers of a cluster" in planned
    with sweep(out, *flags) as running:
        code, errors = ended(running)
    assert code == 0
    assert f"{damaged} is damaged" in errors
    assert "distributed" not in errors  # whose loggers are silent


def trial_processes(worker: "subprocess.Popen[bytes]") -> int:
    return sum(
        any("popen_loky" in part for part in child.cmdline())
        for child in psutil.Process(worker.pid).children()
        if child.status() != psutil.STATUS_ZOMBIE
    )


@pytest.mark.slow  # test_signals interrupts sweeps on this machine
def test_an_interrupted_sweep_leaves_no_trial_running(processes: Processes, tmp_path: Path) -> None:
    processes.scheduler()
    worker = processes.worker()
    flags = ("--scheduler-file", str(processes.file), "--epochs", "5000", "--no-timing")
    wait_for_workers(processes, 1)
    with sweep(tmp_path / "out", "--seeds", "0", *flags) as running:
        wait_for(lambda: trial_processes(worker) == 1)
        time.sleep(5)  # until it trains
        running.send_signal(signal.SIGINT)
        code, _ = ended(running)
    assert code == cli.EXIT_INTERRUPTED
    wait_for(lambda: trial_processes(worker) == 0)


def wait_for_workers(processes: Processes, count: int) -> None:
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(count, timeout=START_SECONDS)


@pytest.mark.slow  # below, one goes and does not come back
def test_the_scheduler_starts_again(processes: Processes, tmp_path: Path) -> None:
    old = processes.scheduler()
    address = json.loads(processes.file.read_text())["address"]
    processes.worker()
    wait_for_workers(processes, 1)
    out = tmp_path / "out"

    def start_again() -> None:
        wait_for(lambda: files(out) > 0)
        assert files(out) < 4
        old.kill()
        old.wait()
        processes.scheduler(port=int(address.rsplit(":", 1)[1]))
        processes.worker()

    flags = ("--seeds", "0", "1", "2", "4", "--scheduler", address, *LONGER)
    code, _ = swept(out, *flags, meanwhile=start_again)
    assert code == 0
    assert rows(out).groupby("seed").size().tolist() == [20] * 4


@pytest.mark.slow  # below, one that stalls at the start
def test_a_worker_that_stalls_is_passed_over(processes: Processes, tmp_path: Path) -> None:
    processes.scheduler()
    stalled, _ = processes.worker(), processes.worker()
    wait_for_workers(processes, 2)
    out = tmp_path / "out"
    flags = ("--scheduler-file", str(processes.file), *LONGER)

    def stall() -> None:
        wait_for(lambda: files(out) > 0)
        assert files(out) < 5
        stalled.send_signal(signal.SIGSTOP)
        wait_for(lambda: files(out) >= 5, seconds=120)
        stalled.send_signal(signal.SIGCONT)  # it comes back with what nobody waits for

    code, _ = swept(out, "--seeds", "0", "1", "2", "4", "5", "6", *flags, meanwhile=stall)
    assert code == 0
    assert rows(out).groupby("seed").size().tolist() == [20] * 6


def test_what_workers_lack_is_said_at_once(processes: Processes, tmp_path: Path) -> None:
    processes.scheduler()
    processes.worker(environment={"DPBENCH_DATA": str(tmp_path / "empty")})
    flags = ("--scheduler-file", str(processes.file), *QUICK, "--dataset", "mnist")
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(1, timeout=START_SECONDS)
        other = remote_calls.Requirements(
            dataset="digits", versions={"dpbench": "9.9", "torch": "1.0"}
        )
        with pytest.raises(BadInput, match=r"it has dpbench .*, not 9\.9 \(--other-versions"):
            cluster.DaskBackend(client, workers_of(tmp_path), other).check()
        any_version = remote_calls.Requirements(dataset="digits", versions=None)
        place = cluster.DaskBackend(client, workers_of(tmp_path), any_version)
        place.check()
        assert str(place) == "1 at a time, on 1 workers of a cluster"
    code, errors = swept(tmp_path / "out", *flags)
    assert code == cli.EXIT_USAGE
    assert "cannot run this sweep: mnist is not under its data root" in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # test_sweeping times engines on this machine, by the same task
def test_engines_are_timed_on_a_worker(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing_task, "TIMED_PROCESSES", 2)
    processes.scheduler()
    processes.worker()
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(1, timeout=START_SECONDS)
        place = cluster.DaskBackend(client, workers_of(tmp_path), requirements)
        place.check()
        parts = list(place.time_engines(["fused", "non-private"], make_workload()))
        assert len(parts) == 2 * timing_task.TIMED_PROCESSES
        assert {len(rows) for rows in parts} == {timing_task.TIMED_PAIRS}
        timed = [row for rows in parts for row in rows if row["engine"] == "fused"]
        assert {row["process"] for row in timed} == set(range(timing_task.TIMED_PROCESSES))
        assert {name: timed[0][name] for name in TIMED_UNDER} == place.conditions()
        store.create(tmp_path / "timed")
        store.write_timings(tmp_path / "timed", "fused", timed)


def test_gpu_trials_take_their_share_of_the_resource(processes: Processes, tmp_path: Path) -> None:
    processes.scheduler()
    processes.worker("--nthreads", "4")
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    trials = [make_trial(seed=seed) for seed in range(6)]
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(1, timeout=START_SECONDS)
        place = cluster.DaskBackend(
            client, workers_of(tmp_path), requirements, gpu_share=0.5, work=wait_a_while
        )
        with pytest.raises(BadInput, match=r"a worker with 0\.5 of the resource GPU"):
            place.check()
        processes.worker("--nthreads", "4", "--resources", "GPU=1")
        client.wait_for_workers(2, timeout=START_SECONDS)
        place.check()
        spans = [rows[0] for rows in place.run(trials)]
    assert {span["trial_id"] for span in spans} == {trial.trial_id for trial in trials}
    at_once = [
        sum(other["start"] <= span["start"] < other["end"] for other in spans) for span in spans
    ]
    assert max(at_once) == 2


def test_no_trial_waits_for_who_has_gone(
    processes: Processes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.scheduler()
    first, _ = processes.worker(), processes.worker(environment={"UNFIT": "1"})
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    trials = [make_trial(seed=seed) for seed in range(8)]
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(2, timeout=START_SECONDS)
        place = cluster.DaskBackend(client, workers_of(tmp_path), requirements, work=unfit_by_name)
        running = place.run(trials)
        seen = [next(running)[0], next(running)[0]]
        first.kill()
        processes.worker()
        seen += [rows[0] for rows in running]
    assert {row["trial_id"] for row in seen} == {trial.trial_id for trial in trials}
    assert "it is unfit" in capsys.readouterr().err


def test_a_worker_without_the_work_is_not_the_trials_fault(
    processes: Processes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.scheduler()
    processes.worker()
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    trials = [make_trial(seed=seed) for seed in range(8)]
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(1, timeout=START_SECONDS)
        place = cluster.DaskBackend(client, workers_of(tmp_path), requirements, work=wait_a_while)
        place.check()
        processes.worker(environment={"PYTHONPATH": ""})  # it cannot find this module
        client.wait_for_workers(2, timeout=START_SECONDS)
        seen = [rows[0] for rows in place.run(trials)]
    assert {row["trial_id"] for row in seen} == {trial.trial_id for trial in trials}
    assert all("start" in row for row in seen)
    assert "ModuleNotFoundError: No module named" in capsys.readouterr().err


def test_a_timing_that_fails_on_a_worker_is_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lacks nothing: it may run trials, and time other engines."""
    monkeypatch.setattr(timing_task, "_task", out_of_memory)
    monkeypatch.setattr(remote_calls, "_cancelled", lambda: lambda: False)
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    found = remote_calls.time_engines(
        ["fused"], make_workload(), workers_of(tmp_path), requirements, (2, 3)
    )
    assert isinstance(found, list)
    (row,) = found
    assert (row["engine"], row["status"]) == ("fused", "out-of-memory")
    assert row["reason"] == "MemoryError: not enough memory"


@pytest.mark.slow  # trials do, by the same code, in the first test
def test_a_timing_goes_on_elsewhere(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_calls, "time_engines", time_slowly)
    processes.scheduler()
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    processes.worker()
    first = processes.worker("--resources", "GPU=1")
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(2, timeout=START_SECONDS)
        place = cluster.DaskBackend(client, workers_of(tmp_path), requirements, gpu_share=0.5)
        place.check()
        assert str(place) == "1 at a time, on 1 workers of a cluster"  # which has one thread
        threading.Timer(1, first.kill).start()
        threading.Timer(2, processes.worker, ["--resources", "GPU=1"]).start()
        ((row,),) = place.time_engines(["fused"], make_workload())
        assert client.scheduler_info()["workers"][row["address"]]["resources"] == {"GPU": 1}


def test_a_scheduler_that_has_gone_is_one_line(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpbench.execution.cluster.scheduler.RECONNECT_SECONDS", 3)
    scheduler = processes.scheduler()
    processes.worker()
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(1, timeout=START_SECONDS)
        place = cluster.DaskBackend(client, workers_of(tmp_path), requirements, work=wait_a_while)
        running = place.run([make_trial(seed=seed) for seed in range(8)])
        next(running)
        scheduler.kill()
        with pytest.raises(BadInput, match="has gone; what is finished is written"):
            list(running)
        with pytest.raises(BadInput, match="has gone"):
            list(place.time_engines(["fused"], make_workload()))


def test_who_does_not_answer_is_passed_over(
    processes: Processes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("dpbench.execution.cluster.dask_workers.ANSWER_SECONDS", 4)
    processes.scheduler()
    stalled, late = processes.worker(), processes.worker()
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(2, timeout=START_SECONDS)
        place = cluster.DaskBackend(client, workers_of(tmp_path), requirements)
        for each in (stalled, late):
            each.send_signal(signal.SIGSTOP)
        with pytest.raises(BadInput, match="that answer, and none does"):
            place.check()
        late.send_signal(signal.SIGCONT)
        monkeypatch.setattr("dpbench.execution.cluster.dask_workers.ANSWER_SECONDS", 20)
        place.check()
        assert "Passed over, for they do not answer: tcp://" in capsys.readouterr().err
        assert str(place) == "1 at a time, on 1 workers of a cluster"


def test_another_service_is_no_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpbench.execution.cluster.scheduler.CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        asked = ["--dataset", "digits", "--out", str(tmp_path / "out"), "--scheduler", address]
        assert sweep_command.main(asked) == cli.EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert "and none answers" in line


def test_a_scheduler_file_that_is_being_written(tmp_path: Path) -> None:
    """dask opens it, and writes it afterwards."""
    file = tmp_path / "scheduler.json"
    file.touch()
    writing = threading.Timer(0.2, file.write_text, ['{"address": "tcp://nowhere"}'])
    writing.start()
    with (
        pytest.raises(BadInput, match="not at 'tcp://nowhere'"),
        cluster.connected(cluster.Address(scheduler_file=file)),
    ):
        pass
    writing.join()


@pytest.mark.parametrize("text", ["", "no JSON", "{}", "[1]"])
def test_a_scheduler_file_that_is_none(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpbench.execution.cluster.scheduler.WRITING_SECONDS", 0.1)
    file = tmp_path / "file.json"
    file.write_text(text)
    with (
        pytest.raises(BadInput, match="as dask writes it"),
        cluster.connected(cluster.Address(scheduler_file=file)),
    ):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_worker_says_that_it_has_no_gpu() -> None:
    requirements = remote_calls.Requirements(
        dataset="digits", versions=remote_calls.versions(), device="cuda"
    )
    assert remote_calls.lacks(requirements) == "it has no CUDA device"
    assert remote_calls.lacks(replace(requirements, device="cpu")) is None


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_tls_is_passed_through(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    tls = ("--tls-ca-file", str(certificate), "--tls-cert", str(certificate), "--tls-key", str(key))
    with Processes(tmp_path, flags=tls) as processes:
        processes.scheduler(host="tls://127.0.0.1")
        processes.worker()
        address = json.loads(processes.file.read_text())["address"]
        assert address.startswith("tls://")
        there = cluster.Address(
            scheduler=address, tls_ca_file=certificate, tls_cert=certificate, tls_key=key
        )
        with cluster.connected(there) as client:
            client.wait_for_workers(1, timeout=START_SECONDS)
        code, _ = swept(tmp_path / "out", *QUICK, "--scheduler", address, *tls)
    assert code == 0
    assert len(rows(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--scheduler tcp://127.0.0.1:9", "a scheduler at tcp://127.0.0.1:9, and none answers"),
        ("--scheduler nonsense://x", "a scheduler at tcp://HOST:PORT"),
        ("--scheduler tcp://127.0.0.1", "not at 'tcp://127.0.0.1'"),
        ("--scheduler http://127.0.0.1:9", "not at 'http://127.0.0.1:9'"),
        ("--scheduler tcp://127.0.0.1:99999", "not at 'tcp://127.0.0.1:99999'"),
        ("--scheduler tls://127.0.0.1:9", "--tls-ca-file, --tls-cert and --tls-key for tls://"),
        ("--scheduler-file none.json", "scheduler_file='none.json' to be a file"),
        ("--scheduler tcp://127.0.0.1:9 --jobs 2", "no jobs=2 with a scheduler"),
        ("--scheduler tcp://127.0.0.1:9 --device cuda:1", "device=cuda:1 to be cpu or cuda"),
        ("--scheduler tcp://127.0.0.1:9 --gpu-share 0.5", "gpu_share=0.5"),
        ("--scheduler tcp://x:9 --scheduler-file y", "not both"),
        ("--tls-cert x.pem", "--scheduler with --tls-cert"),
    ],
)
def test_bad_flags_are_one_line(
    flags: str,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dpbench.execution.cluster.scheduler.CONNECT_SECONDS", 1.0)
    asked = ["--dataset", "digits", "--out", str(tmp_path / "out"), *flags.split()]
    assert sweep_command.main(asked) == cli.EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
