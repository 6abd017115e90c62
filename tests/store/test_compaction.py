"""Stores while they are written to, compacted, renewed and killed: real processes and readers."""

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
import writer
from factories import ROOT, TESTS, WHERE, make_trial, rows

from dpbench import compact, store
from dpbench.observations import Epoch
from dpbench.store import claims, compaction
from dpbench.store import schema as schemas
from dpbench.store.schema import table
from dpbench.trial import Trial

FEW = 20  # trials in a file, in these tests


@contextmanager
def writing(root: Path, name: str, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes so many trials of two rows, and counts them."""
    script = TESTS / "writer.py"
    process = subprocess.Popen([sys.executable, str(script), str(root), name, str(count)])
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


def test_four_readers_read_while_a_process_writes(tmp_path: Path) -> None:
    """Without an error, and what is written at that moment."""
    counter = tmp_path / "count-a"
    read = dict.fromkeys(READERS, 0)
    with writing(tmp_path, "a", 10_000) as process:
        while not size(counter):
            time.sleep(0.01)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            for name, reader in READERS.items():
                at_least = size(counter)
                frame = reader(tmp_path / "trials")
                assert at_least <= frame["trial_id"].nunique() <= size(counter) + 1, name
                assert len(frame) == 2 * frame["trial_id"].nunique(), name
                assert set(store.TRIALS.names) == set(frame.columns), name
                read[name] += 1
            assert len(store.finished(tmp_path)) >= at_least
        assert process.poll() is None
    print(f"{size(counter)} trials written; read {read}")
    assert min(read.values()) > 0


def test_two_writers_at_once_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    with writing(tmp_path, "a", 60) as one, writing(tmp_path, "b", 60) as other:
        assert [one.wait(60), other.wait(60)] == [0, 0]
    frame = pd.read_parquet(tmp_path / "trials")
    assert frame["seed"].nunique() == 60
    assert not frame.duplicated(["trial_id", "epoch"]).any()


@pytest.mark.slow  # below, a compaction is killed, and two writers write at once
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
def compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Trial]]:
    """A store of FEW finished trials and another in two files, and one that failed."""
    monkeypatch.setattr(compaction, "TRIALS_A_FILE", FEW)
    store.create(tmp_path)
    trials = [make_trial(seed=seed) for seed in range(FEW + 2)]
    for trial in trials[1:]:
        store.write_trial(tmp_path, rows(trial))
    failed = store.trial_row(trials[0], Epoch(epoch=1, status="crashed", reason="x"), WHERE)
    store.write_trial(tmp_path, [failed])
    before = store.read_trials(tmp_path)
    assert store.compact(tmp_path) == FEW + 1
    pd.testing.assert_frame_equal(store.read_trials(tmp_path), before)
    return tmp_path, trials


def names(root: Path) -> set[str]:
    return {path.name for path in (root / "trials").iterdir()}


def test_finished_trials_are_compacted_and_failed_ones_are_not(
    compacted: tuple[Path, list[Trial]],
) -> None:
    root, trials = compacted
    expected = {"part-0.parquet", "part-1.parquet", f"{trials[0].trial_id}.parquet"}
    assert names(root) == expected
    store.write_trial(root, rows(trials[0]))  # tried again
    store.write_trial(root, rows(trials[1]))  # by a sweep that did not know
    frame = pd.read_parquet(root / "trials")
    assert len(frame) == FEW + 2
    assert (frame["status"] == "ok").all()
    assert names(root) == expected
    assert store.compact(root) == 1  # the one that was tried again
    assert store.compact(root) == 0
    assert names(root) == {"part-0.parquet", "part-1.parquet", "part-2.parquet"}
    assert len(store.read_trials(root)) == FEW + 2


def test_what_else_lies_in_the_folder_stays_there(compacted: tuple[Path, list[Trial]]) -> None:
    root, _ = compacted
    folder = root / "trials"
    (folder / "notes.txt").write_text("mine")
    (folder / "plots").mkdir()
    (folder / "link").symlink_to("nowhere")
    store.write_trial(root, rows(make_trial(seed=99)))
    assert store.compact(root) == 1
    assert {"notes.txt", "plots", "link"} < names(root)


def test_copies_are_not_compacted_and_none_is_lost(
    compacted: tuple[Path, list[Trial]], caplog: pytest.LogCaptureFixture
) -> None:
    root, trials = compacted
    store.write_trial(root, rows(make_trial(seed=50)))
    own = store.file_of(root, make_trial(seed=50).trial_id)
    copy = own.with_name(f"{own.stem} (copy).parquet")
    copy.write_bytes(own.read_bytes())
    other = own.with_name(f"{trials[1].trial_id}.parquet")  # of what a part holds otherwise
    pq.write_table(table([rows(trials[1])[0] | {"threads": 9}], store.TRIALS), other)
    assert store.compact(root) == 1
    assert {copy.name, other.name} < names(root)
    frame = store.read_trials(root)
    assert len(frame) == FEW + 3
    assert not frame.duplicated(["trial_id", "epoch"]).any()
    assert f"{copy} repeats what is there" in caplog.text


def test_a_compaction_that_is_killed_loses_and_repeats_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dpbench import store;"
        "from dpbench.store import compaction; compaction.TRIALS_A_FILE = 10;"
        "print('ready', flush=True); store.compact(Path(sys.argv[1]))"
    )
    rng = random.Random(0)  # noqa: S311
    store.create(tmp_path)
    for seed in range(60):
        store.write_trial(tmp_path, rows(make_trial(seed=seed)))
    before = store.read_trials(tmp_path)
    stages = set()
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
        pd.testing.assert_frame_equal(store.read_trials(tmp_path), before)
        stages.add(len(names(tmp_path)))
    print(f"files after each kill: {stages}")
    store.compact(tmp_path)
    assert not pd.read_parquet(tmp_path / "trials").duplicated(["trial_id", "epoch"]).any()
    pd.testing.assert_frame_equal(store.read_trials(tmp_path), before)


def test_what_a_killed_compaction_left_twice_goes(
    compacted: tuple[Path, list[Trial]], caplog: pytest.LogCaptureFixture
) -> None:
    root, trials = compacted
    before = store.read_trials(root)
    whole = pq.read_table(root / "trials" / "part-0.parquet")
    rows_of = whole.filter(ds.field("trial_id") == trials[3].trial_id)
    pq.write_table(rows_of, store.file_of(root, trials[3].trial_id))
    pd.testing.assert_frame_equal(store.read_trials(root), before)
    assert "repeats what is there: 1 rows" in caplog.text
    assert store.compact(root) == 1
    assert not store.file_of(root, trials[3].trial_id).exists()
    pd.testing.assert_frame_equal(store.read_trials(root), before)


def test_the_command_compacts_a_folder_and_refuses_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    assert compact.main([str(root)]) == 2
    assert not root.exists()
    store.create(root)
    store.write_trial(root, rows(make_trial()))
    assert compact.main([str(root)]) == 0
    assert capsys.readouterr().out == f"{root}: 1 files were put into files of many trials\n"
    assert names(root) == {"part-0.parquet"}


@pytest.mark.parametrize("elsewhere", [Path("/dev/shm"), None], ids=["shm", "here"])  # noqa: S108
def test_a_folder_that_is_a_link_stays_one_and_is_written_to(
    tmp_path: Path, elsewhere: Path | None
) -> None:
    if elsewhere is not None and not elsewhere.is_dir():
        pytest.skip(f"there is no {elsewhere}")
    with tempfile.TemporaryDirectory(dir=elsewhere or tmp_path) as name:
        root, link = tmp_path / "store", tmp_path / "store" / "trials"
        root.mkdir()
        link.symlink_to(name)
        store.create(root)
        for seed in range(6):
            store.write_trial(root, rows(make_trial(seed=seed)))
        some = store.file_of(root, make_trial(seed=3).trial_id)
        some.write_bytes(b"damaged")
        (link / f".{some.name}.tmp").write_bytes(b"of a writer that died")
        store.create(root)
        assert (root / "damaged" / some.name).read_bytes() == b"damaged"
        assert len(list(Path(name).iterdir())) == 5
        store.compact(root)
        assert link.is_symlink()
        assert len(by_pandas(link)) == 5


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
    store.create(tmp_path)
    for reader in READERS.values():
        assert list(reader(tmp_path / "trials").columns) == store.TRIALS.names
    pd.testing.assert_frame_equal(store.read_trials(tmp_path), frame)


def test_files_that_an_older_dpbench_compacted_get_todays_names(
    compacted: tuple[Path, list[Trial]],
) -> None:
    root, trials = compacted
    before = store.read_trials(root)
    folder, failed = root / "trials", f"{trials[0].trial_id}.parquet"
    for old, new in (
        ("part-0.parquet", "part-1.0-g2.parquet"),
        ("part-1.parquet", "part-2.0-g2.parquet"),
        (failed, f"{trials[0].trial_id}-g2.parquet"),
    ):
        (folder / old).rename(folder / new)
    store.write_trial(root, rows(make_trial(seed=50)))
    pd.testing.assert_frame_equal(store.read_trials(root)[: len(before)], before)
    copy = folder / f"{make_trial(seed=50).trial_id}-g1.parquet"  # whose name is taken
    copy.write_bytes(store.file_of(root, make_trial(seed=50).trial_id).read_bytes())
    store.create(root)
    own = f"{make_trial(seed=50).trial_id}.parquet"
    assert names(root) == {"part-0.parquet", "part-1.parquet", failed, own, copy.name}
    store.write_trial(root, rows(trials[0]))
    assert set(store.states(root).values()) == {"ok"}


CLAIM = """
import sys, time
from pathlib import Path
from dpbench.store.claims import Claims
import writer
with Claims(Path(sys.argv[1]), {}, on_done=print) as claims:
    print(claims.take(writer.trial(0)).name, flush=True)
    time.sleep(60)
"""


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    store.create(tmp_path)
    one, other = writer.trial(0), writer.trial(1)
    with (
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=TESTS,
        ) as process,
        claims.Claims(tmp_path, {}, on_done=print) as ours,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "MINE\n"
        assert ours.take(one) is claims.Claim.BUSY
        assert ours.take(other) is claims.Claim.MINE
        process.kill()
        process.wait()
        assert ours.take(one) is claims.Claim.MINE


def test_a_trial_that_another_sweep_has_run_since_is_done(tmp_path: Path) -> None:
    store.create(tmp_path)
    trial, seen = make_trial(), list[Trial]()
    with claims.Claims(tmp_path, {}, on_done=seen.append) as ours:
        store.write_trial(tmp_path, rows(trial))
        assert ours.take(trial) is claims.Claim.DONE
        assert seen == [trial]


def test_a_published_store_of_an_older_version_is_given_todays_columns(tmp_path: Path) -> None:
    """Its timings, too."""
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
    for name, schema in schemas.SCHEMAS.items():
        for path in (root / name).iterdir():
            assert pq.read_schema(path).names == schema.names
    for frame, again in zip(
        before, (store.read_trials(root), store.read_timings(root)), strict=True
    ):
        pd.testing.assert_frame_equal(frame, again)
