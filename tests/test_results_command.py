"""`dpbench results`: arms are found by their settings, and removed whatever file holds them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import here
import pytest
import stores
from factories import make_trial, rows

from dpbench import cli, report, results, store
from dpbench.store import history


@pytest.fixture(autouse=True)
def undrawn() -> Iterator[None]:
    """Reports are written with empty figures: rendering takes most of their time."""
    with here.blank_figures():
        yield


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return stores.full(tmp_path / "full")


def said(arguments: str, root: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    action, *flags = arguments.split()
    assert results.main([action, str(root), *flags]) == code
    done = capsys.readouterr()
    return done.out + done.err


def test_arms_are_listed_with_what_differs(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said("list", full, capsys)
    header, *rows = [line for line in shown.splitlines() if "  " in line]
    assert header.split()[:5] == ["noise", "clip", "batch", "lr", "epochs"]
    assert len(rows) == 2 * (1 + 3 * 2) + 1  # a baseline for each batch size, and a failure
    assert "dataset digits" in shown.splitlines()[0]
    assert shown.splitlines()[-1] == f"15 arms, 43 trials in {full}"
    assert all(len(line) <= 80 for line in shown.splitlines()[:-1])
    (failed,) = (row for row in rows if row.split()[1] == "7")
    assert failed.split()[-1] == "1"


def test_the_engine_of_baselines_is_no_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = stores.one_trial(tmp_path / "one")
    baseline = make_trial("non-private")
    store.write_trial(root, rows(baseline))
    shown = said("list", root, capsys)
    assert "engine non-private and opacus-hooks" in shown
    assert "engine" not in shown.splitlines()[2].split()
    store.write_trial(root, rows(make_trial("bookkeeping")))
    assert "engine" in " ".join(said("list", root, capsys).splitlines()[1:])


@pytest.mark.parametrize(
    ("flags", "arms"),
    [
        ("--noise 1", 5),
        ("--noise 1 --clip 0.5,1", 4),
        ("--sigma 1:2:1 --batch-size 64 --clip 1", 2),
        ("--engine Opacus_Hooks", 13),
        ("--engine non-private", 2),
        ("--status failed", 1),
        ("--seed 2", 14),
    ],
)
def test_settings_choose_arms(
    flags: str, arms: int, full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(said(f"list {flags} --json", full, capsys))
    assert len(found["arms"]) == arms


def test_a_noise_that_was_solved_for_is_found_as_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.create(tmp_path)
    trial = make_trial(noise_multiplier=7.437744140625)
    stores.add(tmp_path, trial, stores.seen(1, 0.9, 1.0))
    assert "7.438" in said("list", tmp_path, capsys).split()
    assert "1 arm, 1 trial" in said("list --noise 7.438", tmp_path, capsys)
    assert "none of 1 trial fits" in said("list --noise 7.5", tmp_path, capsys, cli.EXIT_NOTHING)


def test_an_arm_is_shown_with_its_trials(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said("show --noise 1 --clip 7", full, capsys)
    assert "max_grad_norm        7\n" in shown
    assert "seed 0: failed in epoch 1: diverged: the loss is nan" in shown
    shown = said("show --noise 2 --clip 1 --batch-size 128", full, capsys)
    assert shown.count("% after epoch 2, epsilon 0.9 at delta 1e-5") == 3
    named = [word for word in shown.split() if word.endswith(".parquet")]
    assert len(named) == 3
    assert all(Path(each).is_file() for each in named)


def test_nothing_is_dropped_without_settings_or_without_yes(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in (full / "trials").iterdir()}
    assert "such as --noise 1, or --all" in said("drop", full, capsys, cli.EXIT_USAGE)
    shown = said("drop --noise 2", full, capsys, cli.EXIT_NOTHING)
    assert "Nothing is removed; --yes removes 12 trials." in shown
    assert {path: path.read_bytes() for path in (full / "trials").iterdir()} == before


@pytest.mark.parametrize(
    "compacted",
    [
        pytest.param(False, id="a file each", marks=pytest.mark.slow),  # as in a part, and simpler
        pytest.param(True, id="in a part"),
    ],
)
def test_what_is_dropped_is_gone_and_nothing_waits_for_it(
    compacted: bool, full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(  # as a user does; a row of it would come back
        next((full / "trials").glob("*.parquet")), full / "trials" / "copy.parquet"
    )
    if compacted:
        store.compact(full)
    trials = store.read_trials(full)
    gone = set(trials[trials["noise_multiplier"] == 2]["trial_id"])
    said("drop --noise 2 --yes", full, capsys)
    kept = store.read_trials(full)
    assert set(kept["trial_id"]) == set(trials["trial_id"]) - gone
    assert len(kept) == len(trials[~trials["trial_id"].isin(gone)])
    page = (full / "report.html").read_text(encoding="utf-8")
    assert "12 trials asked for were removed" in page
    assert "1 of 43 trials asked for are not there yet, or not any more" in page  # as before
    (record,) = history.read(full)
    assert set(record.dropped) == gone
    history.write(full, history.asked("dpbench.sweep", [], trial_ids=[*gone]))
    assert history.dropped(history.read(full)) == frozenset()  # another sweep asks for them
    assert report.main([str(full), "--quiet"]) == 0
    page = (full / "report.html").read_text(encoding="utf-8")
    assert "13 of 43 trials asked for are not there yet" in page
    assert "were removed" not in page


def test_the_page_of_an_empty_store_is_gone(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(full / "timings")
    assert report.main([str(full), "--quiet"]) == 0
    said("drop --all --yes", full, capsys)
    assert store.read_trials(full).empty
    assert not (full / "report.html").exists()


def test_a_folder_that_no_sweep_has_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = said("list", tmp_path, capsys, cli.EXIT_USAGE)
    assert f"Expected {tmp_path} to be a folder that a sweep has written." in shown
