"""Private searches as a user types them, in this process."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import here
import pandas as pd
import pytest

import dpbench
from dpbench import results, store
from dpbench.execution import provenance, trial_task
from dpbench.execution.backend import Workers
from dpbench.execution.schedule import Row
from dpbench.observations import Epoch
from dpbench.privacy import run_count
from dpbench.search import private_draw
from dpbench.trial import Trial

TINY = (
    "--dataset digits --model logistic --total-epsilon 3 --search 3 --learning-rate log:0.1:16 "
    "--max-grad-norm 1 --batch-size 256 --epochs 1 --device cpu --jobs 1"
).split()


def drawn(folder: Path) -> str:
    (path,) = (folder / "results" / "digits-sweep" / "private_searches").iterdir()
    return path.read_text()


def test_a_total_epsilon_is_drawn_once_and_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_count, "draw", lambda *_: 3)
    twice = [[0.99], [0.99], [0.4]]  # the worse one of the settings
    monkeypatch.setattr(
        private_draw,
        "draw",
        lambda *given, drawn=private_draw.draw: replace(drawn(*given), points=twice),
    )
    first = here.sweep(*TINY, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "3 trials on digits: 3 to run" in first.stderr
    epsilon = re.search(r"whole search spends epsilon ([\d.]+) at delta 1e-5", first.stdout)
    assert epsilon is not None
    assert 2.95 < float(epsilon[1]) <= 3
    before = drawn(tmp_path)
    assert json.loads(before)["ended"]
    monkeypatch.setattr(run_count, "draw", lambda *_: 7)
    assert "is drawn once, from the geometric distribution with mean 3; the" in first.stderr
    assert " trials, 0 failed, " in first.stderr
    assert "best" not in first.stderr  # nobody is to stop, or to choose, by what is shown
    again = here.sweep(*TINY, "--json", cwd=tmp_path)
    assert "3 of them done before: 0 to run" in again.stderr
    assert drawn(tmp_path) == before
    said = json.loads(again.stdout)["private_selection"]
    assert said["statement"] in first.stdout
    assert "drawn once from the geometric distribution with mean 3" in said["statement"]
    listed = here.run(results.main, "list", "results/digits-sweep", cwd=tmp_path).stdout
    assert {line.split()[-2] for line in listed.splitlines()[3:-1]} == {"drawn"}
    assert max(map(len, listed.splitlines())) <= 80
    page = (tmp_path / "results" / "digits-sweep" / "report.html").read_text()
    assert "Private selection" in page
    points = pd.read_csv(tmp_path / "results" / "digits-sweep" / "privacy_accuracy.csv")
    assert 0.761 in set(points["learning_rate"])
    assert "in no figure" not in page
    assert '<table id="answers">' not in page  # its runs are no answers: the best one is
    assert said["statement"].replace("'", "&#39;") in page


def test_a_crash_is_tried_again_until_the_best_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_count, "draw", lambda *_: 2)
    with monkeypatch.context() as crashing:
        crashing.setattr(trial_task, "run_trial", _crashed)
        first = here.sweep(*TINY, cwd=tmp_path)
    assert first.returncode == 1
    assert "Some runs have not ended" in first.stdout
    assert "--no-retry-failed they score lowest" in first.stderr
    again = here.sweep(*TINY, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Best: " in again.stdout
    (row, *_) = (tmp_path / "results" / "digits-sweep" / "trials").iterdir()
    row.unlink()
    refused = here.sweep(*TINY, cwd=tmp_path)
    assert refused.returncode == 2
    assert "Rows of this search are missing" in refused.stderr


def _crashed(trial: Trial, workers: Workers, *, concurrent: int) -> Iterator[Row]:
    seen = Epoch(epoch=1, status="crashed", reason="its process died")
    yield store.trial_row(
        trial, seen, provenance.without_gpu(trial, workers, concurrent=concurrent)
    )


def test_nothing_is_trained_where_the_number_drawn_is_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_count, "draw", lambda *_: 0)
    found = here.sweep(*TINY, "--private-selection", "poisson", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "none was drawn: nothing can be published" in found.stdout
    assert "Poisson distribution with mean 3" in found.stdout
    assert not list((tmp_path / "results" / "digits-sweep" / "trials").iterdir())


def test_a_dry_run_draws_nothing(tmp_path: Path) -> None:
    found = here.sweep(*TINY, "--private-scores", "--dry-run", "--json", cwd=tmp_path)
    said = json.loads(found.stdout)
    planned = said["private_selection"]
    assert 2.95 < planned["epsilon"] <= 3
    assert planned["score_noise"] > 1
    assert 10 < said["seconds"] < said["seconds_in_99_of_100_draws"] < 60
    assert said["runs_in_99_of_100_draws"] == 12  # 1 - (2 / 3) ** 12 = 0.992
    assert not (tmp_path / "results").exists()
    text = here.sweep(*TINY, "--dry-run", cwd=tmp_path).stdout
    assert "noise multiplier" in text
    assert "on average, 1 at a time, on cpu; in 99 of 100 draws there are at most 12 runs" in text


def test_a_dry_run_tells_nothing_of_a_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = here.sweep(*TINY, "--dry-run", cwd=tmp_path)
    monkeypatch.setattr(run_count, "draw", lambda *_: 0)
    here.sweep(*TINY, "--private-selection", "poisson", cwd=tmp_path)
    here.sweep(*TINY, cwd=tmp_path)
    assert len(list((tmp_path / "results" / "digits-sweep" / "private_searches").iterdir())) == 2
    assert here.sweep(*TINY, "--dry-run", cwd=tmp_path).stdout == before.stdout


def test_python_returns_the_best_beside_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_count, "draw", lambda *_: 0)
    rows = dpbench.run_sweep(
        dpbench.Grid(noise_multiplier=[4], batch_size=[256], epochs=1, model=["logistic"]),
        dataset="digits",
        out=tmp_path / "store",
        private_selection="poisson",
        progress=False,
    )
    assert rows.empty
    assert rows.attrs["private_selection"]["epsilon"] > 0
