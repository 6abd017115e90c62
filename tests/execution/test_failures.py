"""Trials that fail in every way, in real sweeps: recorded, and the rest go on."""

import os
import subprocess
import sys
from pathlib import Path

import here
import pandas as pd
import pytest
from factories import TESTS
from faulty_sweeps import sweep

FAILURES = (
    "1=raise 2=memory 3=segfault",
    pytest.param("1=once 2=hang", marks=pytest.mark.slow),
    pytest.param("1=exit 2=sysexit 3=kill", marks=pytest.mark.slow),
)
EXPECTED = {
    "raise": ("failed", "ValueError: </td><script>alert(1)", "in _raise"),
    "memory": ("out-of-memory", "can't allocate memory", "in _memory"),
    "segfault": ("crashed", "twice, the second time alone: killed by SIGSEGV", "Segmentation"),
    "hang": ("timeout", "took longer than --trial-timeout 20 s", "in <lambda>"),
    "exit": ("crashed", "exit code 3", None),
    "sysexit": ("crashed", "exit code 5", None),
    "kill": ("crashed", "killed by SIGKILL", None),
}


@pytest.mark.parametrize("faults", FAILURES)
def test_failed_trials_are_recorded_and_the_others_go_on(tmp_path: Path, faults: str) -> None:
    name = "a <b>&\u540d\u524d 'q' $x^"
    wrong = {int(seed): fault for seed, fault in (each.split("=") for each in faults.split())}
    seeds = ["--seeds", *map(str, range(len(wrong) + 2)), "--out", name]
    done = sweep(tmp_path, *seeds, "--trial-timeout", "20", faults=faults)
    print(done.stderr)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    frame = pd.read_parquet(tmp_path / name / "trials")
    assert not frame.duplicated(["seed", "epoch"]).any()
    for seed in range(len(wrong) + 2):
        rows = frame[frame["seed"] == seed].sort_values("epoch")
        last = rows.iloc[-1]
        fault = wrong.get(seed, "once")
        if fault == "once":  # it died, and did not when it was tried again alone
            assert rows["status"].tolist() == ["ok", "ok"]
            assert last["workers_beside"] == (0 if seed in wrong else 1)
            continue
        status, reason, traceback = EXPECTED[fault]
        assert rows["status"].tolist() == ["ok", status]  # the epoch before is kept
        assert reason in last["reason"]
        assert pd.isna(last["traceback"]) if traceback is None else traceback in last["traceback"]
        assert f"{last['trial_id']}  {status:<13}      2" in done.stderr
    failed = sum(fault != "once" for fault in wrong.values())
    assert f"{failed} of {len(wrong) + 2} trials failed" in done.stderr

    passing = int(frame["status"].isin(["crashed", "out-of-memory"]).sum())
    again = sweep(tmp_path, *seeds, "--dry-run")
    assert f"{passing} to run into" in again.stdout
    again = sweep(tmp_path, *seeds, "--dry-run", "--no-retry-failed")
    assert "0 to run into" in again.stdout
    with here.trials_here():  # where no fault is
        again = sweep(tmp_path, *seeds, "--retry-failed")
    assert again.returncode == 0, again.stderr
    assert f": {failed} to run" in again.stderr
    assert (pd.read_parquet(tmp_path / name / "trials")["status"] == "ok").all()


@pytest.mark.slow  # test_folding has two writers in the default run
def test_two_sweeps_into_one_store_share_its_trials(tmp_path: Path) -> None:
    arguments = ("--seeds", *map(str, range(8)), "--out", "both")
    command = (
        "import sys; from faulty_sweeps import sweep; from pathlib import Path;"
        "from dpbench import store; write = store.write_trial;"
        "store.write_trial = lambda out, rows: write(out, rows) or print('wrote', file=sys.stderr);"
        "done = sweep(Path(sys.argv[1]), *sys.argv[2:]);"
        "print(done.stderr, file=sys.stderr); sys.exit(done.returncode)"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", command, str(tmp_path), *arguments],
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    wrote = [text.count("wrote\n") for text in said]
    assert sum(wrote) == 8, said  # each by one of the two
    frame = pd.read_parquet(tmp_path / "both" / "trials")
    assert sorted(frame["seed"].unique()) == list(range(8))
    assert len(frame) == 2 * 8
