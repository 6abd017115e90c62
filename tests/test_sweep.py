"""The command as a user types it: one real sweep by subprocess, others in this process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import here
import pandas as pd
import psutil
import pytest
from filelock import FileLock
from interpreters import imports_torch

from dpbench import engines, report, store, sweep

TINY = (
    "--dataset digits --noise-multiplier 0.8 1.6 --max-grad-norm 1 --batch-size 64 --epochs 2 "
    "--jobs 1"
).split()
UNTIMED = [*TINY, "--no-timing"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, with worker processes."""
    return subprocess.run(
        [sys.executable, "-m", "dpbench.sweep", *arguments],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "DPBENCH_DATA"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def swept(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder in which a tiny sweep has run without timings, and what it said.

    It runs once for all of pytest-xdist's processes; each has a copy.
    """
    root, said = shared / "swept", shared / "swept.json"
    with FileLock(f"{root}.lock"):
        if not said.exists():
            root.mkdir()
            said.write_text(json.dumps(vars(run(*UNTIMED, cwd=root))), encoding="utf-8")
    folder = tmp_path_factory.mktemp("sweep")
    shutil.copytree(root, folder, dirs_exist_ok=True)
    return folder, subprocess.CompletedProcess(**json.loads(said.read_text(encoding="utf-8")))


def test_a_sweep_on_digits_end_to_end(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = swept
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(folder / "results" / "digits-sweep" / "trials")
    assert len(frame) == 5 * 2  # two private trials and the baseline's three rates, two epochs each
    assert frame["test_accuracy"].between(0.05, 1).all()
    private = frame[frame["engine"] == "fused"]
    assert sorted(private["noise_multiplier"].unique()) == [0.8, 1.6]
    assert (private["epsilon"] > 0).all()
    assert (private["accountant"] == "pld").all()
    assert (private["epsilon_rdp"] > private["epsilon"]).all()
    last = private[private["epoch"] == private["epochs"]]
    assert (last["epsilon_prv"] - last["epsilon"]).between(0.008, 0.012).all()  # Opacus' margin
    assert "[5/5 trials, 0 failed" in done.stderr
    assert "On digits, the best non-private setting, of 3 chosen on the test set," in done.stdout
    assert "page: results/digits-sweep/report.html" in done.stdout


def test_the_page_holds_the_command(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    page = (swept[0] / "results" / "digits-sweep" / "report.html").read_text(encoding="utf-8")
    assert f"python -m dpbench.sweep {' '.join(UNTIMED)}" in page
    assert "are not there yet" not in page


def test_figures_are_drawn_as_svg_and_png(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder = swept[0] / "results" / "digits-sweep"
    assert (folder / "privacy_accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (folder / "privacy_accuracy.svg").read_text(encoding="utf-8")


@pytest.mark.long  # test_sweeping records timings, and test_timing takes real ones
def test_a_sweep_times_every_engine_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(*TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "digits-sweep"
    timings = pd.read_parquet(folder / "timings")
    assert set(timings["engine"]) == {"non-private", *engines.private_names()}
    assert (timings.groupby("engine").size() >= 7).all()
    assert (folder / "overhead.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (folder / "overhead.svg").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert sweep.main([*TINY, "--dry-run"]) == 0
    plan = "0 to run into results/digits-sweep, and 0 timings: about 0 s"
    assert plan in capsys.readouterr().out
    assert sweep.main([*TINY, "--dry-run", "--json", "--threads", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["timings_to_run"]) > 0  # they were timed with one


def test_the_same_command_again_runs_only_what_is_missing(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = swept
    trials = folder / "results" / "digits-sweep" / "trials"
    before = {path.name: path.stat().st_mtime_ns for path in trials.iterdir()}
    gone = sorted(before)[0]
    (trials / gone).unlink()
    again = here.sweep(*UNTIMED, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "5 trials on digits, 4 of them done before: 1 to run" in again.stderr
    after = {path.name: path.stat().st_mtime_ns for path in trials.iterdir()}
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {gone}


def test_a_sweep_over_two_models(tmp_path: Path) -> None:
    typed = "--dataset digits --model mlp tanh-cnn --engine bookkeeping --epochs 1 --no-timing"
    typed += " --noise-multiplier 1 --max-grad-norm 1 --batch-size 256 --no-baseline"
    done = here.sweep(*typed.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "results" / "digits-sweep" / "trials")
    assert sorted(frame["model"]) == ["mlp", "tanh-cnn"]
    assert set(frame["status"]) == {"ok"}
    assert set(frame["implementation"]) == {"bookkeeping"}
    assert "[2/2 trials, 0 failed, 2/2 epochs" in done.stderr


@pytest.mark.slow  # above, on digits
def test_a_sweep_on_mnist_end_to_end(mnist_root: Path, tmp_path: Path) -> None:
    done = here.sweep(
        *"--noise-multiplier 1 --max-grad-norm 1 --batch-size 1024 --epochs 1".split(),
        *("--no-timing", "--no-baseline"),
        cwd=tmp_path,
        environment={"DPBENCH_DATA": str(mnist_root)},
    )
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "results" / "mnist-sweep" / "trials")
    assert frame["dataset"].unique().tolist() == ["mnist"]
    private = frame[frame["engine"] == "fused"].iloc[0]
    assert private["test_accuracy"] > 0.6
    assert private["steps"] == 59
    assert private["sample_rate"] == 1024 / 60_000
    assert private["examples_seen"] == pytest.approx(59 * 1024, rel=0.02)


def test_without_mnist_auto_says_so_and_runs_on_digits(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()  # a data root to which nothing can be downloaded
    done = here.sweep(
        *"--noise-multiplier 1 --max-grad-norm 1 --batch-size 256 --epochs 1 --no-timing".split(),
        "--data-root",
        str(blocked),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    first, *_ = done.stderr.splitlines()
    assert "running on the embedded digits" in first
    frame = pd.read_parquet(tmp_path / "results" / "digits-sweep" / "trials")
    assert frame["dataset"].unique().tolist() == ["digits"]


def test_a_trial_that_diverges_is_recorded_and_the_exit_code_tells(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(
        'dataset = "digits"\nepochs = 1\nbatch_size = 64\n'
        '[[grid]]\nengine = "non-private"\nlearning_rate = 1e9\n'
        "[[grid]]\nnoise_multiplier = 1\nmax_grad_norm = 1\nbaseline = false\n"
    )
    done = here.sweep("two.toml", "--no-timing", "--quiet", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "failed" in done.stderr.splitlines()[0]  # no progress before it
    page = (tmp_path / "results" / "two" / "report.html").read_text(encoding="utf-8")
    assert "learning_rate = 1e9" in page  # the sweep file
    frame = pd.read_parquet(tmp_path / "results" / "two" / "trials").set_index("engine")
    assert frame.loc["fused", "status"] == "ok"
    assert frame.loc["non-private", "status"] == "failed"
    assert str(frame.loc["non-private", "reason"]).startswith("diverged")
    again = here.sweep("two.toml", "--no-timing", cwd=tmp_path)
    assert again.returncode == 1  # its error would repeat, so it is not tried again
    assert "1 of them done before, 1 failed before (--retry-failed tries" in again.stderr
    assert "1 of 2 trials failed" in again.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    done = here.sweep(
        *TINY, "--dry-run", "--target-epsilon", "3", "--noise-multiplier", "1", cwd=tmp_path
    )
    assert done.returncode == 2  # both at once
    done = here.sweep(
        *"--dataset mnist --dry-run --target-epsilon 1 3 --epochs 1".split(), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if " fused " in line]
    assert len(lines) == 2 * 3 * 2
    assert {round(float(line.split()[0])) for line in lines} == {1, 3}
    assert all(float(line.split()[0]) <= round(float(line.split()[0])) for line in lines)
    assert "to run into results/mnist-sweep, and" in done.stdout
    assert "Noise was solved for this number of training examples" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seeds", "shown"), [(10, 20), (11, 19), (90, 19)])
def test_a_dry_run_fits_a_screen(
    seeds: int, shown: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = "--dataset digits --noise 1 --clip 1 --batch-size 64 --lr 0.1 --epochs 1".split()
    asked += ["--dry-run", "--no-timing", "--out", str(tmp_path / "out"), "--seeds"]
    assert sweep.main([*asked, *map(str, range(seeds))]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    trials = [line for line in lines if " seed " in line]
    assert head.startswith("  epsilon  epochs  trial")
    assert len(trials) == shown
    assert trials[0].endswith("seed 0")
    assert trials[-1].endswith(f"seed {seeds - 1}")
    assert last.startswith(f"{2 * seeds} trials, {2 * seeds} to run into")
    gaps = [line for line in lines if line not in trials]
    assert [line.split()[2] for line in gaps] == [str(2 * seeds - shown)] * (seeds > 10)


BAD = {
    "negative noise": ("--noise-multiplier -1", "noise_multiplier=-1.0 >= 0"),
    "zero clip": ("--max-grad-norm 0", "max_grad_norm=0.0 > 0"),
    "negative batch": ("--batch-size -5", "batch_size=-5 >= 1"),
    "large batch": ("--batch-size 5000", "batch_size=5000 <= 1,437"),
    "no value": ("--noise-multiplier", "expected at least one argument"),
    "twice": ("--seeds 1 1", "each seed once, not 1 twice"),
    "no number": ("--epochs ten", "epochs='ten' to be a whole number"),
    "no flag": ("--noise-multipler 1", "did you mean --noise-multiplier?"),
    "part of a flag": ("--noise-mult 1", "--noise-mult (did you mean --noise-multiplier?)"),
    "no file": ("nowhere.toml", "nowhere.toml: No such file"),
    "target": ("--target-epsilon 1e9", "target_epsilon=1e+09 to be at most"),
    "negative target": ("--target-epsilon -1", "target_epsilon=-1.0 > 0"),
    "dataset": ("--dataset minst", "Unknown dataset 'minst': did you mean mnist?"),
    "not there": ("--dataset kmnist --data-root blocked", "Cannot load dataset=kmnist"),
    "engine": ("--engine opacus-host", "'opacus-host': did you mean opacus-ghost?"),
    "device": ("--device tpu", "device='tpu' to be auto, cpu, cuda"),
    "no such gpu": ("--device cuda:99", "device='cuda:99' to be one of"),
    "jobs": ("--jobs 0", "jobs=0 >= 1"),
    "no time": ("--trial-timeout 0", "trial_timeout=0.0 > 0"),
    "delta": ("--delta 2", "delta=2.0 > 0 and < 1"),
    "out": ("--out blocked/results", "Cannot write results to blocked/results"),
    "answer": ("--answer-at 3 -1", "answer_at=-1.0 to be an epsilon: > 0 and finite"),
    "confirm": ("--confirm -1", "confirm=-1 to be a number of seeds, 0 or more"),
    "seeds": (f"--confirm 2 --seeds {2**63 - 2}", "confirm=2 seeds after seed=9223372036854775806"),
    "tuned": ("--tuned-in blocked", "tuned_in=blocked to be a folder that a sweep has written"),
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
    given = arguments.split()
    if "--dataset" not in given:
        given = ["--dataset", "digits", *given]
    try:
        code = sweep.main(given)
    except SystemExit as error:  # argparse's own
        code = error.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == [tmp_path / "blocked"]  # nothing is written


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--device gpu", "device='gpu' to be auto, cpu, cuda"),
        ("--device cpu cpu", "each device once"),
        ("--stack many", "stack='many' to be auto"),
        ("--scheduler 127.0.0.1:1", "Expected a scheduler at 127.0.0.1:1, and none answers"),
        ("--scheduler nowhere", "Expected a scheduler at tcp://HOST:PORT"),
        ("--scheduler 127.0.0.1:1 --jobs 2", "no jobs=2 with a scheduler"),
        ("--gpu-share 0.5", "Expected --scheduler with --gpu-share"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(
    flags: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever names where the trials run."""
    monkeypatch.chdir(tmp_path)
    assert sweep.main([*TINY[:-2], "--dry-run", *flags.split()]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_is_one_object(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a sweep that has run: it has nothing more to do, and that takes no time."""
    monkeypatch.chdir(swept[0])
    monkeypatch.delenv("DPBENCH_DATA", raising=False)

    def plan(*flags: str) -> str:
        assert sweep.main([*TINY, "--dry-run", *flags]) == 0
        return capsys.readouterr().out

    said = json.loads(plan("--json", "--jobs", "3", "--no-timing"))
    assert (said["device"], said["places"]) == ("cpu", 3)
    assert (said["trials_to_run"], said["timings_to_run"], said["seconds"]) == (0, [], 0)
    known = store.states(swept[0] / "results" / "digits-sweep")
    assert {each["trial_id"]: each["status"] for each in said["trials"]} == known
    assert {each["to_run"] for each in said["trials"]} == {False}
    nothing = "0 to run into results/digits-sweep, and 0 timings: about 0 s"
    assert nothing in plan("--no-timing")
    assert nothing not in plan()
    assert len(json.loads(plan("--json"))["timings_to_run"]) > 0
    said = json.loads(plan("--json", "--seeds", "5", "--no-timing"))
    assert said["trials_to_run"] == len(said["trials"]) > 0
    assert said["seconds"] > 0


ASKED = (
    "--dataset digits --target-epsilon 50 --max-grad-norm 1 2 --batch-size 256 --epochs 1 "
    "--jobs 2 --no-timing"
).split()


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder in which a sweep has confirmed its answer, and that."""
    folder = tmp_path_factory.mktemp("confirmed")
    return folder, told(here.sweep(*ASKED, "--confirm", "2", "--json", cwd=folder))


def test_the_answer_is_at_the_target_on_fresh_seeds(
    confirmed: tuple[Path, dict[str, Any]],
) -> None:
    folder, said = confirmed
    (answer,) = said["answers"]
    assert answer["epsilon_at_most"] == 50
    best = answer["best"]
    assert 49 < best["epsilon"] <= 50
    assert best["confirmed_on"] == said["baseline"]["confirmed_on"] == [1, 2]
    assert said["finished"] == 4 + 2 * 2  # two rates without privacy, two clips; the best of each
    rows = pd.read_parquet(folder / "results" / "digits-sweep" / "trials")
    fresh = rows[rows["seed"] > 0].groupby("engine")["test_accuracy"].mean()
    assert best["accuracy"]["mean"] == pytest.approx(fresh["fused"])
    assert said["baseline"]["accuracy"]["mean"] == pytest.approx(fresh["fused-non-private"])
    assert best["loss"]["seeds"] == 2
    assert best["price"]["trainings"] == 4


def test_a_confirmation_is_resumed_and_never_chooses(
    confirmed: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, said = confirmed
    store = folder / "results" / "digits-sweep"
    (gone,) = (
        path
        for path in (store / "trials").iterdir()
        if (pd.read_parquet(path)[["engine", "seed"]].iloc[0] == ["fused", 2]).all()
    )
    gone.unlink()
    again = here.sweep(*ASKED, "--confirm", "2", "--json", cwd=folder)
    assert "4 trials on digits, 4 of them done before: 0 to run" in again.stderr
    assert "4 trials on digits, 3 of them done before: 1 to run" in again.stderr
    assert told(again)["answers"] == said["answers"]
    with here.blank_figures():
        assert report.main([str(store), "--json"]) == 0  # of the store, by what is recorded
    whole = json.loads(capsys.readouterr().out)
    assert whole["answers"] == said["answers"]
    page = (store / "report.html").read_text(encoding="utf-8")
    assert "Confirmed on fresh seeds" in page
    assert "are not there yet" not in page
    with here.blank_figures():
        assert report.main([str(store), "--answer-at", "0.5", "60", "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)["answers"]
    assert [(each["epsilon_at_most"], each["best"] is None) for each in asked] == [
        (0.5, True),
        (60, False),
    ]


def test_a_command_answers_for_its_own_trials_and_dataset(
    confirmed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(confirmed[0] / "results" / "digits-sweep", store)
    other = "--dataset digits --noise-multiplier 4 --max-grad-norm 1 --batch-size 256 --epochs 1"
    said = told(
        here.sweep(*other.split(), "--no-timing", "--out", str(store), "--json", cwd=tmp_path)
    )
    assert [each["epsilon_at_most"] for each in said["answers"]] == [1, 3, 8]
    assert {each["best"]["setting"]["noise_multiplier"] for each in said["answers"]} == {4}
    assert (said["finished"], said["others"]) == (3, 6)
    page = (store / "report.html").read_text(encoding="utf-8")
    for epsilon in (1, 3, 8, 50):
        assert f"With epsilon at most {epsilon} " in page
    refused = here.sweep("--dataset", "mnist", "--out", str(store), cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"python -m dpbench.sweep: Expected {store} to hold trials on mnist, not on digits: name "
        "another folder with --out.\n"
    )


def test_a_sweep_file_names_what_is_answered_and_an_earlier_tuning_counts(
    confirmed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(confirmed[0] / "results" / "digits-sweep", tmp_path / "tuning")
    (tmp_path / "mine.toml").write_text(
        'dataset = "digits"\nanswer_at = [7, 2]\nconfirm = 1\ntuned_in = "tuning"\nepochs = 1\n'
        "noise_multiplier = 2.0\nmax_grad_norm = [1, 2]\nbatch_size = 256\nbaseline = false\n"
    )
    said = told(here.sweep("mine.toml", "--no-timing", "--json", cwd=tmp_path))
    assert [each["epsilon_at_most"] for each in said["answers"]] == [2, 7]
    for each in said["answers"]:
        assert each["best"]["confirmed_on"] == [1]
        price = each["best"]["price"]
        assert (price["settings"], price["tuned"]) == (2 + 2, 2)
        assert price["epsilon"] > 50  # of the tuning, with less noise


LIGHT = (
    ("--help",),
    ("--version",),
    pytest.param(("--dry-run", "--dataset", "mnist"), marks=pytest.mark.slow, id="--dry-run"),
    ("--dry-run", "--dataset", "mnist", "--device", "cpu", "--json"),
)


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_do_not_import_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert not imports_torch(f"import dpbench.sweep; dpbench.sweep.main({arguments})", tmp_path)


def test_reporting_does_not_import_torch(
    swept: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    root = str(swept[0] / "results" / "digits-sweep")
    assert not imports_torch(f"import dpbench.report; dpbench.report.main([{root!r}])", tmp_path)


def test_an_import_of_torch_would_be_seen(tmp_path: Path) -> None:
    assert imports_torch("import dpbench.training.loop", tmp_path)


def test_a_report_on_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 4
    assert "holds no trial" in capsys.readouterr().err
    assert report.main([str(tmp_path / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


@pytest.mark.slow  # test_signals interrupts a sweep, too
def test_an_interrupted_sweep_says_how_to_go_on_and_leaves_no_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "dpbench.sweep", *UNTIMED, "--epochs", "400"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that the signal reaches the sweep alone, as from `kill -INT`
    ) as running:
        assert running.stderr is not None
        assert "to run" in running.stderr.readline()
        time.sleep(8)  # the workers are training, or still importing torch
        workers = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()  # ends when no process holds it open any more
        assert running.wait(timeout=10) == 130
    assert "run the same command again to carry on" in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
