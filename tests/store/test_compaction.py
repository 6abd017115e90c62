"""Stores while they are written to, folded and killed: real processes, real readers."""

import errno
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from factories import ROOT, TESTS, WHERE, make_trial, rows

from dpbench import store
from dpbench.store import compaction, files, locks
from dpbench.store import schema as schemas
from dpbench.store.schema import table
from dpbench.trial import Epoch, Trial

MANY = 20  # in these tests, so that stores are folded often


@contextmanager
def writing(
    root: Path, name: str, count: int, many: int = MANY
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes so many trials of two rows, folding as it goes, and counts them."""
    script = TESTS / "writer.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(root), str(many), name, str(count)]
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def by_pandas(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder)


def by_pyarrow(folder: Path) -> pd.DataFrame:
    return ds.dataset(folder).to_table().to_pandas()


def by_duckdb(folder: Path) -> pd.DataFrame:
    with duckdb.connect() as connection:
        return connection.read_parquet(f"{folder}/*.parquet").to_arrow_table().to_pandas()


def by_polars(folder: Path) -> pd.DataFrame:
    return pl.read_parquet(f"{folder}/*.parquet").to_pandas()


READERS = {"pandas": by_pandas, "pyarrow": by_pyarrow, "duckdb": by_duckdb, "polars": by_polars}
GONE = ("No such file", "Failed to open local file", "os error 2")


@pytest.mark.parametrize("folds", [False, True], ids=["writing", "folding"])
def test_four_readers_read_while_a_process_writes(tmp_path: Path, folds: bool) -> None:
    """Never a wrong answer; while nothing is folded no error, and otherwise only of a file gone."""
    counter = tmp_path / "count-a"
    read, gone = dict.fromkeys(READERS, 0), dict.fromkeys(READERS, 0)
    with writing(tmp_path, "a", 10_000, MANY if folds else 10_000) as process:
        while not size(counter):
            time.sleep(0.01)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for name, reader in READERS.items():
                at_least = size(counter)
                try:
                    frame = reader(tmp_path / "trials")
                except Exception as error:  # every library has its own
                    if not (folds and any(text in str(error) for text in GONE)):
                        raise
                    gone[name] += 1
                    continue
                assert at_least <= frame["trial_id"].nunique() <= size(counter) + 1, name
                assert len(frame) == 2 * frame["trial_id"].nunique(), name
                assert set(store.TRIALS.names) == set(frame.columns), name
                read[name] += 1
            assert len(store.finished(tmp_path)) >= at_least  # never told that a file is gone
        assert process.poll() is None
    print(f"{size(counter)} trials written; read {read}; a file gone {gone}")
    assert min(read.values()) > 0


def test_two_writers_at_once_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    with writing(tmp_path, "a", 60) as one, writing(tmp_path, "b", 60) as other:
        assert [one.wait(60), other.wait(60)] == [0, 0]
    frame = pd.read_parquet(tmp_path / "trials")
    assert frame["seed"].nunique() == 60
    assert not frame.duplicated(["trial_id", "epoch"]).any()
    assert len(list((tmp_path / "trials").iterdir())) < 60


def test_a_writer_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311
    counter = tmp_path / "count-a"
    written = 0
    for _ in range(5):
        before = size(counter)
        with writing(tmp_path, "a", 60) as process:
            while process.poll() is None and size(counter) == before:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.3))
        frame = pd.read_parquet(tmp_path / "trials")
        assert not frame.duplicated(["trial_id", "epoch"]).any()
        assert frame["trial_id"].nunique() >= written
        written = frame["trial_id"].nunique()
    with writing(tmp_path, "a", 60) as process:
        assert process.wait(60) == 0
    assert len(pd.read_parquet(tmp_path / "trials")) == 2 * 60
    assert not list((tmp_path / ".writing").glob("*.tmp"))


def size(counter: Path) -> int:
    return counter.stat().st_size if counter.exists() else 0


@pytest.fixture
def folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Trial]]:
    """A store of MANY finished trials that are folded, and one that failed."""
    monkeypatch.setattr(compaction, "MANY", MANY)
    store.create(tmp_path)
    trials = [make_trial(seed=seed) for seed in range(MANY)]
    for trial in trials[1:]:
        store.write_trial(tmp_path, rows(trial))
    failed = store.trial_row(trials[0], Epoch(epoch=1, status="crashed", reason="x"), WHERE)
    store.write_trial(tmp_path, [failed])
    before = store.read_trials(tmp_path)
    compaction.compact(tmp_path)
    pd.testing.assert_frame_equal(store.read_trials(tmp_path), before)
    return tmp_path, trials


def test_finished_trials_are_folded_and_failed_ones_are_not(
    folded: tuple[Path, list[Trial]],
) -> None:
    root, trials = folded
    names = {path.name for path in (root / "trials").iterdir()}
    assert names == {"part-1.0-g1.parquet", f"{trials[0].trial_id}-g1.parquet"}
    store.write_trial(root, rows(trials[0]))  # tried again
    store.write_trial(root, rows(trials[1]))  # by a sweep that did not know
    frame = pd.read_parquet(root / "trials")
    assert len(frame) == MANY
    assert (frame["status"] == "ok").all()
    assert {path.name for path in (root / "trials").iterdir()} == names


def again(root: Path, first: int) -> None:
    """Writes MANY more trials, and folds."""
    for seed in range(first, first + MANY):
        store.write_trial(root, rows(make_trial(seed=seed)))
    compaction.compact(root)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed"])
def test_what_else_lies_in_the_folder_stays_there(
    folded: tuple[Path, list[Trial]], monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    root, _ = folded
    if not exchange:
        monkeypatch.setattr("dpbench.store.files._exchange", lambda *_: False)
    folder = root / "trials"
    (folder / "notes.txt").write_text("mine")
    (folder / "plots" / "old").mkdir(parents=True)
    (folder / "plots" / "old" / "a.csv").write_text("1")
    (folder / ".hidden").touch()
    (folder / "link").symlink_to("nowhere")
    foreign = {"notes.txt", "plots", ".hidden", "link"}
    for count in (1, 2, 3):
        again(root, count * MANY)
        names = {path.name for path in folder.iterdir()}
        assert foreign < names
        assert all(name.endswith(".parquet") for name in names - foreign)
        assert (folder / "notes.txt").read_text() == "mine"
        assert (folder / "plots" / "old" / "a.csv").read_text() == "1"
        assert len(store.states(root)) == (count + 1) * MANY


def test_what_a_fold_that_was_killed_has_left_behind_comes_back(
    folded: tuple[Path, list[Trial]],
) -> None:
    root, _ = folded
    old = root / ".writing" / "trials"
    (old / "notes.txt").write_text("mine")  # it was killed before it could move them
    (old / "plots.parquet").mkdir()
    (root / "trials" / "notes.txt").write_text("newer")
    store.create(root)
    again(root, MANY)
    assert (root / "trials" / "notes.txt").read_text() == "newer"
    assert (root / "trials" / "again-notes.txt").read_text() == "mine"
    assert len(list(root.rglob("plots.parquet"))) == 1


def test_a_file_that_comes_while_others_are_folded_stays(
    folded: tuple[Path, list[Trial]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = folded
    exchange = files._exchange

    def late(one: Path, other: Path) -> bool:
        pq.write_table(table(rows(make_trial(seed=99)), store.TRIALS), other / "late.parquet")
        return exchange(one, other)

    monkeypatch.setattr(files, "_exchange", late)
    again(root, MANY)
    assert make_trial(seed=99).trial_id in store.states(root)


@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP", "EMLINK"])
def test_where_files_cannot_be_linked_they_are_copied(
    folded: tuple[Path, list[Trial]], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    root, _ = folded

    def no(*_: object) -> None:
        raise OSError(getattr(errno, code), code)

    monkeypatch.setattr("os.link", no)
    again(root, MANY)
    again(root, 2 * MANY)
    assert len(store.states(root)) == 3 * MANY
    assert len(list((root / "trials").iterdir())) == 4


@pytest.mark.parametrize("elsewhere", [Path("/dev/shm"), None], ids=["shm", "here"])  # noqa: S108
def test_a_folder_that_is_a_link_stays_one_and_is_written_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    elsewhere: Path | None,
) -> None:
    if elsewhere is not None and not elsewhere.is_dir():
        pytest.skip(f"there is no {elsewhere}")
    monkeypatch.setattr(compaction, "MANY", MANY)
    with tempfile.TemporaryDirectory(dir=elsewhere or tmp_path) as name:
        root, link = tmp_path / "store", tmp_path / "store" / "trials"
        root.mkdir()
        link.symlink_to(name)
        store.create(root)
        again(root, 0)
        again(root, MANY)
        assert link.is_symlink()
        assert f"{link} is a link" in caplog.text
        assert len(by_pandas(link)) == 2 * MANY
        some = next(link.iterdir())
        some.write_bytes(b"damaged")
        (link / f".{some.name}.tmp").write_bytes(b"of a writer that died")
        store.create(root)
        assert len(store.states(root, store.set_aside)) == 2 * MANY - 1
        assert (root / "damaged" / some.name).read_bytes() == b"damaged"
        assert len(list(Path(name).iterdir())) == 2 * MANY - 1


def test_copies_are_not_folded_and_none_is_lost(
    folded: tuple[Path, list[Trial]], caplog: pytest.LogCaptureFixture
) -> None:
    root, trials = folded
    store.write_trial(root, rows(make_trial(seed=50)))
    own = store.file_of(root, make_trial(seed=50).trial_id)
    own.with_name(f"{own.stem} (copy).parquet").write_bytes(own.read_bytes())
    own.with_name(f"{own.stem}-g1.parquet").write_bytes(own.read_bytes())
    done = trials[1].trial_id  # which a part holds
    pq.write_table(table(rows(trials[1]), store.TRIALS), own.with_name(f"{done}.parquet"))
    again(root, MANY)
    frame = store.read_trials(root)
    assert len(frame) == 2 * MANY + 1
    assert not frame.duplicated(["trial_id", "epoch"]).any()
    copies = {
        f"{own.stem} (copy)-g2.parquet",
        f"{own.stem}-g2.parquet",
        f"{done}-g2.parquet",
    }
    assert copies < {path.name for path in (root / "trials").iterdir()}
    assert all(name in caplog.text for name in copies)


def test_a_folder_is_put_back_where_renaming_was_cut_short(
    folded: tuple[Path, list[Trial]],
) -> None:
    root, trials = folded
    (root / "trials").rename(root / ".writing" / "trials.old")
    assert store.states(root) == {}
    store.create(root)
    assert len(store.states(root)) == len(trials)


def test_where_names_cannot_be_exchanged_they_are_renamed(
    folded: tuple[Path, list[Trial]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = folded
    monkeypatch.setattr("dpbench.store.files._exchange", lambda *_: False)
    for seed in range(MANY, 2 * MANY):
        store.write_trial(root, rows(make_trial(seed=seed)))
    compaction.compact(root)
    assert len(pd.read_parquet(root / "trials")) == 2 * MANY
    assert len(list((root / "trials").iterdir())) == 3


def test_an_older_store_is_read_and_a_sweep_gives_it_todays_columns(tmp_path: Path) -> None:
    store.create(tmp_path)
    for seed in range(3):
        store.write_trial(tmp_path, rows(make_trial(seed=seed)))
    old = tmp_path / "trials" / f"{make_trial(seed=0).trial_id}.parquet"
    without = pq.ParquetFile(old).read().drop_columns(["traceback", "reason"])
    pq.write_table(without, old)
    before = {path: path.read_bytes() for path in (tmp_path / "trials").iterdir()}
    frame = store.read_trials(tmp_path)
    assert len(frame) == 3
    assert frame["traceback"].isna().all()
    assert {path: path.read_bytes() for path in (tmp_path / "trials").iterdir()} == before
    compaction.compact(tmp_path)
    for reader in READERS.values():
        assert list(reader(tmp_path / "trials").columns) == store.TRIALS.names
    pd.testing.assert_frame_equal(store.read_trials(tmp_path), frame)


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from dpbench.store import locks;"
        "claims = locks.Claims(Path(sys.argv[1])); print(claims.take('ab' * 8), flush=True);"
        "time.sleep(60)"
    )
    path = tmp_path / "claims"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        claims = locks.Claims(path)
        assert not claims.take("ab" * 8)
        assert claims.take("cd" * 8)
        other.kill()
        other.wait()
        assert claims.take("ab" * 8)
        claims.close()


def test_a_published_store_of_an_older_version_is_given_todays_columns(tmp_path: Path) -> None:
    """Its timings, too: a sweep into results/mnist ended in a traceback."""
    source = ROOT / "results" / "mnist-quick"
    root = tmp_path / "mnist-quick"
    shutil.copytree(source, root)
    for name, schema in schemas.SCHEMAS.items():  # as before the latest columns
        for path in (root / name).iterdir():
            whole = pq.read_table(path)
            kept = [each for each in whole.column_names if each in schema.names[:-3]]
            pq.write_table(whole.select([*kept]), path)
    before = store.read_trials(root), store.read_timings(root)
    store.create(root)
    compaction.compact(root)
    for name, schema in schemas.SCHEMAS.items():
        for path in (root / name).iterdir():
            assert pq.read_schema(path).names == schema.names
    for frame, again in zip(
        before, (store.read_trials(root), store.read_timings(root)), strict=True
    ):
        pd.testing.assert_frame_equal(frame, again)
