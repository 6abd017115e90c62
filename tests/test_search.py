"""Searches as a user types them, in this process."""

import json
from pathlib import Path
from typing import Any

import here
import pandas as pd
import pytest

from dpbench import sweep

TINY = (
    "--dataset digits --noise-multiplier 1 --max-grad-norm 0.1,1 --learning-rate log:0.1:16 "
    "--batch-size 256 --model logistic --validation 10% --no-timing --device cpu --jobs 1"
).split()


def ids(folder: Path) -> set[str]:
    return set(pd.read_parquet(folder / "results" / "digits-sweep" / "trials")["trial_id"])


def test_a_search_is_extended_and_answered(tmp_path: Path) -> None:
    first = here.sweep(*TINY, "--epochs", "1", "--search", "2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Search: 2 settings drawn: 2 trials and 2 non-private baselines." in first.stderr
    before = ids(tmp_path)
    more = here.sweep(*TINY, "--epochs", "1", "--search", "4", "--json", cwd=tmp_path)
    assert "6 trials on digits, 4 of them done before: 2 to run" in more.stderr
    assert before < ids(tmp_path)
    (answer, *_) = [each for each in json.loads(more.stdout)["answers"] if each["best"]]
    assert answer["best"]["chosen_by"] == "validation_accuracy"
    assert answer["best"]["price"]["settings"] == 4


def test_a_sweep_file_holds_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "search.toml"
    path.write_text(
        'dataset = "digits"\nsearch = 3\nnoise_multiplier = [1, 2]\nepochs = [1, 2]\n'
        "learning_rate = { low = 0.1, high = 16, log = true }\nmax_grad_norm = 1\n"
        'batch_size = "64:256"\n'
    )
    assert sweep.main([str(path), "--dry-run", "--device", "cpu", "--json"]) == 0
    said = capsys.readouterr()
    assert "Search: 3 settings drawn, each at 2 targets: 6 trials and 3 non-private" in said.err
    trials: list[dict[str, Any]] = json.loads(said.out)["trials"]
    private = [each for each in trials if each["noise_multiplier"]]
    assert len(private) == 6
    assert {each["epochs"] for each in private} == {1, 2}
    assert all(64 <= each["batch_size"] <= 256 for each in private)
    assert {each["epochs"] for each in trials if each not in private} == {2}


def test_early_stopping_keeps_the_best_and_is_resumed(tmp_path: Path) -> None:
    asked = [*TINY, *"--answer-at 50 --epochs 4 --search 5 --seeds 0 1 --early-stop".split()]
    stopped = here.sweep(*asked, "--json", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    assert "After 1 of 4 epochs one in 4 goes on, by validation among" in stopped.stderr
    assert "Rung 1 of 2: 14 trials on digits" in stopped.stderr
    assert "[rung 2 of 2: 4/4 trials, 0 failed, 16/16 epochs (100 %), took" in stopped.stderr
    assert "Early stopping: 2 of 5 settings go on to 4 epochs." in stopped.stderr
    assert "start anew" not in stopped.stderr
    rows = pd.read_parquet(tmp_path / "results" / "digits-sweep" / "trials")
    private = rows[rows["noise_multiplier"].notna()]
    assert private.groupby("epochs")["trial_id"].nunique().to_dict() == {1: 10, 4: 4}
    first = private[private["epochs"] == 1].groupby("learning_rate")["validation_accuracy"].mean()
    best = set(private[private["epochs"] == 4]["learning_rate"])
    assert best == set(first.nlargest(2).index)

    answers = json.loads(stopped.stdout)["answers"]
    (found,) = (each["best"] for each in answers)
    assert found["setting"]["learning_rate"] in best
    assert found["arms"] == found["price"]["settings"] == 5
    assert found["price"]["trainings"] == 10  # a shorter one is in its longer one
    assert found["next"]["learning_rate"] != found["setting"]["learning_rate"]

    again = here.sweep(*asked, "--json", cwd=tmp_path)
    assert again.stderr.count(": 0 to run") == 2
    assert json.loads(again.stdout)["answers"] == answers


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--search 2 --validation 0",
            "examples held out with early_stop=4, which judges settings by",
        ),
        ("", "a search with early_stop=True: say with --search N"),
        ("--search 2 --fresh-noise", "no fresh_noise with early_stop=4"),
        ("--search 2 --clip-only", "no clip_only with early_stop=4"),
        ("--search 2 --epochs 1", "epochs=1 to be 2 or more with early_stop"),
        ("--search 2 --early-stop 1", "early_stop=1 to be 2 or more: one in so many settings"),
    ],
)
def test_what_cannot_stop_early_is_refused(
    flags: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*TINY, "--early-stop", "--out", str(tmp_path / "out"), *flags.split()]
    assert sweep.main(asked) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_optuna_is_told_what_the_store_holds(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
    asked = [*TINY, "--epochs", "1", "--search-method", "optuna", "--answer-at", "50", "--json"]
    first = here.sweep(*asked, "--search", "11", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Search: 11 settings at noise 1, the first 10 drawn evenly" in first.stderr
    assert "Search at noise 1: 11 settings of 11, best validation score" in first.stderr
    before = ids(tmp_path)
    assert len(before) == 11 + 2
    more = here.sweep(*asked, "--search", "12", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert len(ids(tmp_path)) == 12 + 2
    assert before < ids(tmp_path)  # the eleven are those of before
    (answer,) = json.loads(more.stdout)["answers"]
    assert answer["best"]["price"]["settings"] == 12


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("--epochs 20 --early-stop", [5, 2]), ("--search-method optuna", [10]), ("", [])],
)
def test_a_dry_run_says_what_runs_at_most(
    flags: str, expected: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    if "optuna" in flags:
        pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
    asked = [*TINY, "--search", "20", "--dry-run", *flags.split()]
    assert sweep.main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["going_on_at_most"] == expected
    assert sweep.main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[4] for line in lines if line.startswith("and then at most")] == [
        str(count) for count in expected
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--validation 0", "examples held out with search_method=optuna"),
        ("--early-stop", "no early_stop with search_method=optuna"),
        ("--search-method grid", "Unknown search_method 'grid'"),
    ],
)
def test_what_optuna_cannot_be_asked_is_refused(
    flags: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*TINY, "--search", "2", "--search-method", "optuna", "--out", str(tmp_path / "out")]
    assert sweep.main([*asked, *flags.split()]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
