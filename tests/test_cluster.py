"""Sweeps through a real scheduler and real workers, which die, stall, lack things and join late."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from clusters import Processes, sweep, wait_for
from conftest import make_trial

from dpbench import cluster, command, runner, station, store
from dpbench import sweep as sweep_command
from dpbench.trial import BadInput, Trial

SEEDS = [str(seed) for seed in range(8)]
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


def ended(process: "subprocess.Popen[str]", seconds: float = 240) -> tuple[int, str]:
    _, errors = process.communicate(timeout=seconds)
    print(errors)
    return process.returncode, errors


def rows(out: Path) -> pd.DataFrame:
    frame = pd.read_parquet(out / "trials")
    assert not frame.duplicated(["seed", "epoch"]).any()
    return frame.sort_values(["seed", "epoch"])


def files(out: Path) -> int:
    return len(list((out / "trials").glob("*.parquet")))


def test_a_worker_dies_another_joins_and_a_poisonous_trial_is_recorded(
    processes: Processes, tmp_path: Path
) -> None:
    processes.scheduler()
    first, _ = processes.worker(), processes.worker()
    out = tmp_path / "out"
    flags = ("--scheduler-file", str(processes.file), "--epochs", "6", "--no-timing")
    with sweep(out, "--seeds", *SEEDS, *flags) as running:
        wait_for(lambda: files(out) > 0)
        first.kill()  # midway in a trial
        processes.worker()
        code, errors = ended(running)
    assert code == 1
    assert "8 trials on digits: 8 to run" in errors
    found = rows(out)
    poisonous = found["seed"] == 3
    assert found[poisonous]["status"].tolist() == ["ok", "crashed"]  # in its second epoch
    assert "killed by SIGSEGV" in found[poisonous]["reason"].iloc[-1]
    assert found[~poisonous].groupby("seed").size().tolist() == [6] * 7

    with sweep(tmp_path / "here", "--seeds", *SEEDS, "--epochs", "6", "--no-timing") as running:
        code, _ = ended(running)
    assert code == 0  # here is no fault
    here = rows(tmp_path / "here")
    same = ["trial_id", "epoch", "test_accuracy", "test_loss", "epsilon", "steps", "examples_seen"]
    here = here[here["seed"] != 3]
    pd.testing.assert_frame_equal(
        found[~poisonous][same].reset_index(drop=True),
        here[same].reset_index(drop=True),
        check_dtype=False,  # a crashed trial's row has no steps
    )


def test_the_scheduler_starts_again(processes: Processes, tmp_path: Path) -> None:
    old = processes.scheduler()
    address = json.loads(processes.file.read_text())["address"]
    processes.worker()
    out = tmp_path / "out"
    with sweep(out, "--seeds", "0", "1", "2", "4", "--scheduler", address, *LONGER) as running:
        wait_for(lambda: files(out) > 0)
        assert files(out) < 4
        old.kill()
        old.wait()
        processes.scheduler(port=int(address.rsplit(":", 1)[1]))
        processes.worker()
        code, _ = ended(running)
    assert code == 0
    assert rows(out).groupby("seed").size().tolist() == [20] * 4


def test_a_worker_that_stalls_is_passed_over(processes: Processes, tmp_path: Path) -> None:
    processes.scheduler()
    stalled, _ = processes.worker(), processes.worker()
    out = tmp_path / "out"
    flags = ("--scheduler-file", str(processes.file), *LONGER)
    with sweep(out, "--seeds", "0", "1", "2", "4", "5", "6", *flags) as running:
        wait_for(lambda: files(out) > 0)
        assert files(out) < 5
        stalled.send_signal(signal.SIGSTOP)
        wait_for(lambda: files(out) >= 5, seconds=120)
        stalled.send_signal(signal.SIGCONT)  # it comes back with what nobody waits for
        code, _ = ended(running)
    assert code == 0
    assert rows(out).groupby("seed").size().tolist() == [20] * 6


def test_what_workers_lack_is_said_at_once(processes: Processes, tmp_path: Path) -> None:
    processes.scheduler()
    without = {"DPBENCH_DATA": str(tmp_path / "empty")}
    processes.worker(environment=without)
    flags = ("--scheduler-file", str(processes.file), *QUICK, "--dataset", "mnist")
    workers = runner.Workers(
        data_root=tmp_path, devices=("cpu",), jobs=1, threads=1, physical_batch_size=256
    )
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(1, timeout=60)
        other = station.Kit(dataset="digits", versions={"dpbench": "9.9", "torch": "1.0"})
        with pytest.raises(BadInput, match=r"it has dpbench .*, not 9\.9 \(--other-versions"):
            cluster.Cluster(client, workers, other).check()
        any_version = station.Kit(dataset="digits", versions=None)
        place = cluster.Cluster(client, workers, any_version)
        place.check()
        assert str(place) == "1 at a time, on 1 workers of a cluster"
        timed = place.time_engine("fused", 64, "digits")
        assert {row["engine"] for row in timed} == {"fused"}
        assert len(timed) == cluster.TIMING_PAIRS
        store.create(tmp_path / "timed")
        store.write_timings(tmp_path / "timed", "fused", timed)
    with sweep(tmp_path / "out", *flags) as running:
        code, errors = ended(running)
    assert code == command.EXIT_USAGE
    assert "cannot run this sweep: mnist is not under its data root" in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def wait_a_while(trials: tuple[Trial, ...], _workers: object, _kit: object) -> list[Any]:
    start = time.time()
    time.sleep(0.5)
    return [{"trial_id": each.trial_id, "start": start, "end": time.time()} for each in trials]


def test_gpu_trials_take_their_share_of_the_resource(processes: Processes, tmp_path: Path) -> None:
    processes.scheduler()
    processes.worker("--nthreads", "4")
    workers = runner.Workers(
        data_root=tmp_path, devices=("cpu",), jobs=1, threads=1, physical_batch_size=256
    )
    kit = station.Kit(dataset="digits", versions=None)
    trials = [make_trial(seed=seed) for seed in range(6)]
    with cluster.connected(cluster.Address(scheduler_file=processes.file)) as client:
        client.wait_for_workers(1, timeout=60)
        place = cluster.Cluster(client, workers, kit, gpu_share=0.5, work=wait_a_while)
        with pytest.raises(BadInput, match=r"a worker with 0\.5 of the resource GPU"):
            place.check()
        processes.worker("--nthreads", "4", "--resources", "GPU=1")
        client.wait_for_workers(2, timeout=60)
        place.check()
        spans = [rows[0] for rows in place.run(trials)]
    assert {span["trial_id"] for span in spans} == {trial.trial_id for trial in trials}
    at_once = [
        sum(other["start"] <= span["start"] < other["end"] for other in spans) for span in spans
    ]
    assert max(at_once) == 2


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
        with sweep(tmp_path / "out", *QUICK, "--scheduler", address, *tls) as running:
            code, _ = ended(running)
    assert code == 0
    assert len(rows(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--scheduler tcp://127.0.0.1:9", "a scheduler at tcp://127.0.0.1:9, and none answers"),
        ("--scheduler nonsense://x", "a scheduler at tcp://HOST:PORT"),
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
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    asked = ["--dataset", "digits", "--out", str(tmp_path / "out"), *flags.split()]
    assert sweep_command.main(asked) == command.EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
