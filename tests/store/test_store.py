import dataclasses
import os
import random
import resource
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import writer
from factories import WHERE, make_trial, mostly_slow, rows

from dpbench import report, store
from dpbench.errors import BadInput
from dpbench.observations import Environment, Epoch, StepTiming
from dpbench.reporting import store_report
from dpbench.store import files, history
from dpbench.store.schema import table


def test_pandas_alone_reads_a_tidy_frame(tmp_path: Path) -> None:
    store.create(tmp_path)
    for trial in (make_trial("non-private", epochs=2), make_trial(epochs=3)):
        store.write_trial(tmp_path, rows(trial))
    frame = pd.read_parquet(tmp_path / "trials")
    assert len(frame) == 2 + 3
    assert not frame.duplicated(["trial_id", "epoch"]).any()
    baseline = frame[frame["engine"] == "non-private"]
    for column in ("noise_multiplier", "max_grad_norm", "delta", "epsilon"):
        assert baseline[column].isna().all()
        assert frame[column].dtype == "float64"
    assert str(frame["started_at"].dtype) == "datetime64[us, UTC]"


def test_the_columns_are_those_of_the_design() -> None:
    assert (
        store.TRIALS.names
        == (
            "schema_version trial_id dataset data_hash model model_args model_hash loss loss_hash "
            "engine sampling noise_multiplier "
            "max_grad_norm clipping batch_size optimizer learning_rate momentum epochs "
            "validation_examples seed delta noise_source epoch steps sample_rate examples_seen "
            "train_loss test_loss "
            "test_accuracy validation_loss validation_accuracy test_balanced_accuracy "
            "validation_balanced_accuracy test_auroc validation_auroc test_metrics "
            "validation_metrics epsilon accountant epsilon_pld "
            "epsilon_rdp epsilon_prv epsilon_gdp epsilon_if_poisson epsilon_note "
            "dp_accounting_version noise_derivation system_seed train_seconds examples_per_second "
            "status reason traceback dpbench_version dpbench_commit python_version torch_version "
            "opacus_version implementation device device_name threads memory_format "
            "physical_batch_size workers_beside started_at stacked_trials"
        ).split()
    ), "a changed column needs a new SCHEMA_VERSION"
    assert {"seconds_per_step", "baseline_seconds_per_step", "alone"} <= set(store.TIMINGS.names)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    store.create(tmp_path)
    trial = make_trial(noise_multiplier=0.0)
    row = store.trial_row(
        trial, Epoch(epoch=1, epsilon=float("inf"), status="failed", reason="</b> ∑\n'x'"), WHERE
    )
    store.write_trial(tmp_path, [row])
    (read,) = store.read_trials(tmp_path).to_dict("records")
    for name, value in row.items():
        if value is None:
            assert pd.isna(read[name])
        else:
            assert read[name] == value


def test_a_later_try_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    store.create(tmp_path)
    trial = make_trial(epochs=2)
    failed = store.trial_row(trial, Epoch(epoch=2, status="failed", reason="x"), WHERE)
    store.write_trial(tmp_path, [*rows(trial, 1), failed])
    assert store.finished(tmp_path) == set()
    store.write_trial(tmp_path, rows(trial))
    assert store.finished(tmp_path) == {trial.trial_id}
    assert list(store.read_trials(tmp_path)["status"]) == ["ok", "ok"]


def test_a_row_with_an_unknown_or_missing_column_is_refused(tmp_path: Path) -> None:
    store.create(tmp_path)
    (row,) = rows(make_trial())
    for wrong in (row | {"surprise": 1}, {k: v for k, v in row.items() if k != "epsilon"}):
        with pytest.raises(ValueError, match=r"differing: \['(surprise|epsilon)'\]"):
            store.write_trial(tmp_path, [wrong])
    assert list((tmp_path / "trials").iterdir()) == []


def test_a_writer_that_dies_leaves_nothing_that_readers_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial()))

    def dies(*_: object, **__: object) -> None:
        assert list((tmp_path / ".writing").glob("*.tmp"))
        assert len(pd.read_parquet(tmp_path / "trials")) == 1  # while the file is half written
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", dies)
    with pytest.raises(KeyboardInterrupt):
        store.write_trial(tmp_path, rows(make_trial(seed=1)))
    assert len(list((tmp_path / "trials").iterdir())) == 1
    assert not list((tmp_path / ".writing").glob("*.tmp"))


def test_reading_what_is_not_there_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "none"
    assert store.finished(root) == set()
    assert store.read_trials(root).empty
    assert store.read_timings(root).empty
    assert not root.exists()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    store.create(tmp_path)
    (row,) = rows(make_trial())
    store.write_trial(tmp_path, [row | {"schema_version": 99}])
    for reading in (store.read_trials, store.states, store.create):
        with pytest.raises(BadInput, match=r"schema version 99 .* upgrade dpbench"):
            reading(tmp_path)


@pytest.mark.parametrize("statistics", [True, False], ids=["statistics", "none"])
@pytest.mark.parametrize("name", ["trials", "timings"])
def test_a_newer_store_is_not_written_to(tmp_path: Path, name: str, statistics: bool) -> None:
    (tmp_path / name).mkdir()
    novel = pa.table({"novel": [{"a": 1, "b": 2}] * 2, "schema_version": [1, 99]})
    pq.write_table(novel, tmp_path / name / "new.parquet", write_statistics=statistics)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="schema version 99"):
        store.create(tmp_path)
    assert set(tmp_path.rglob("*")) == before


def test_readers_pass_over_a_damaged_file_and_a_sweep_sets_it_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(tmp_path)
    whole, cut = make_trial(), make_trial(seed=1)
    for trial in (whole, cut):
        store.write_trial(tmp_path, rows(trial))
    file = tmp_path / "trials" / f"{cut.trial_id}.parquet"
    damaged = file.read_bytes()[:-10]
    file.write_bytes(damaged)
    assert store.finished(tmp_path) == {whole.trial_id}
    assert list(store.read_trials(tmp_path)["trial_id"]) == [whole.trial_id]
    assert f"{file} is damaged" in caplog.text
    assert file.is_file()  # reading never writes
    caplog.clear()
    store.create(tmp_path)
    assert f"{file} is damaged" in caplog.text
    assert (tmp_path / "damaged" / file.name).read_bytes() == damaged
    assert store.finished(tmp_path) == {whole.trial_id}
    store.write_trial(tmp_path, rows(cut))
    assert store.finished(tmp_path) == {whole.trial_id, cut.trial_id}


def test_what_is_no_file_of_ours_is_passed_over_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial()))
    (own,) = (tmp_path / "trials").iterdir()
    good = pq.ParquetFile(own).read()
    columns = {"version": "schema_version", "epoch": "epoch", "status": "status"}
    for name, column in columns.items():
        at = good.schema.get_field_index(column)
        odd = pa.array([["x"]] * len(good))
        pq.write_table(good.set_column(at, column, odd), own.with_name(f"{name}.parquet"))
    (tmp_path / "trials" / "dangling.parquet").symlink_to("nowhere")
    (tmp_path / "trials" / "folder.parquet").mkdir()
    names = {*columns, "dangling", "folder"}
    assert len(store.read_trials(tmp_path)) == 1
    for name in names:
        assert f"{name}.parquet is damaged" in caplog.text
    assert len(store.states(tmp_path, store.set_aside)) == 1
    assert {path.stem for path in (tmp_path / "damaged").iterdir()} == names
    assert (tmp_path / "damaged" / "dangling.parquet").is_symlink()
    caplog.clear()
    assert len(store.states(tmp_path)) == 1
    assert caplog.text == ""


KEYS = ("trial_id", "dataset", "engine", "batch_size", "learning_rate", "epochs", "epoch")


FAST = {*KEYS, "schema_version", "model", "sampling", "optimizer", "status", "epsilon", "reason"}


@pytest.mark.parametrize("missing", mostly_slow(store.TRIALS.names, lambda name: name in FAST))
def test_a_file_that_lacks_a_column_is_never_set_aside(
    missing: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows have the default of the column's field, or null; or they stay, and are left out."""
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial(epochs=2)))
    whole = store.read_trials(tmp_path)
    (own,) = (tmp_path / "trials").iterdir()
    pq.write_table(pq.ParquetFile(own).read().drop_columns([missing]), own)
    old = own.read_bytes()
    store.create(tmp_path)
    store.states(tmp_path, store.set_aside)
    frame = store.read_trials(tmp_path, store.set_aside)
    assert not (tmp_path / "damaged").exists()
    (own,) = (tmp_path / "trials").iterdir()
    if missing in (*KEYS, "schema_version"):
        assert frame.empty
        assert own.read_bytes() == old
        assert f"it has no column {missing}" in caplog.text
        assert "runs them again" not in caplog.text
        unsure = missing in ("trial_id", "epochs", "epoch", "schema_version")
        refused = pytest.raises(BadInput, match=r"it has no column .*: move it")
        with refused if unsure else nullcontext():  # else it is known to be finished
            store.write_trial(tmp_path, rows(make_trial(epochs=2)))
        assert own.read_bytes() == old
        return
    assert store.finished(tmp_path) == {make_trial(epochs=2).trial_id}
    pd.testing.assert_frame_equal(frame.drop(columns=missing), whole.drop(columns=missing))
    kept = {"model": "tutorial-cnn", "sampling": "poisson", "momentum": 0.0, "seed": 0}
    kept |= {"optimizer": "sgd", "clipping": "flat"}
    kept["status"] = "ok"
    if missing in kept:
        assert set(frame[missing]) == {kept[missing]}
    else:
        assert frame[missing].isna().all()
    assert list(pd.read_parquet(own).columns) == store.TRIALS.names  # the sweep has mended it


def test_a_store_that_does_not_say_where_it_was_measured_has_a_report(tmp_path: Path) -> None:
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial(epochs=2)))
    (own,) = (tmp_path / "trials").iterdir()
    where = [field.name for field in dataclasses.fields(Environment)]
    pq.write_table(pq.ParquetFile(own).read().drop_columns(where), own)
    assert len(store.read_trials(tmp_path)) == 2
    assert store_report.write_report(tmp_path) is not None


def test_a_column_that_is_not_known_is_left_out_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that a later dpbench has, or that the user has added."""
    store.create(tmp_path)
    for seed in range(3):
        store.write_trial(tmp_path, rows(make_trial(seed=seed)))
    own = store.file_of(tmp_path, make_trial().trial_id)
    mine = pq.ParquetFile(own).read().append_column("mine", pa.array(["x"]))
    pq.write_table(mine, own)
    store.create(tmp_path)
    assert store.compact(tmp_path) == 2
    assert len(store.read_trials(tmp_path, store.set_aside)) == 3
    assert not (tmp_path / "damaged").exists()
    assert caplog.text.count("columns that dpbench does not know") == 1
    assert pq.ParquetFile(store.file_of(tmp_path, make_trial().trial_id)).read().equals(mine)


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial()))
    (own,) = (tmp_path / "trials").iterdir()

    def short(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(pq.ParquetFile, "read", short)
    with pytest.raises(MemoryError):
        files.read(own)
    for reading in (store.states, store.read_trials):
        with pytest.raises(BadInput, match=rf"Cannot read {own}: .* too little memory"):
            reading(tmp_path, store.set_aside)
    assert own.exists()


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trials").symlink_to("trials")  # as one without leave to list it, for root, too
    with pytest.raises(BadInput, match=r"Cannot read .*/trials: Too many levels"):
        store.states(tmp_path)
    assert report.main([str(tmp_path)]) == 2
    assert "Cannot read" in capsys.readouterr().err


def test_a_name_that_is_too_long_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / ("x" * 300)
    with pytest.raises(BadInput, match=r"Cannot write results to .*: File name too long"):
        store.create(root)
    assert report.main([str(root)]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_trial_that_two_files_hold_is_read_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(tmp_path)
    once, twice, tried = (make_trial(epochs=2, seed=seed) for seed in range(3))
    for trial in (once, twice, tried):
        store.write_trial(tmp_path, rows(trial))
    alone = store.read_trials(tmp_path)
    assert caplog.text == ""
    own = store.file_of(tmp_path, twice.trial_id)
    copy = own.with_name(f"{own.stem} (copy).parquet")
    copy.write_bytes(own.read_bytes())
    failed = [store.trial_row(tried, Epoch(epoch=1, status="failed", reason="x"), WHERE)]
    first = own.with_name("0.parquet")
    pq.write_table(table(failed, store.TRIALS), first)
    pd.testing.assert_frame_equal(store.read_trials(tmp_path), alone)
    assert f"{first} repeats what is there: 1 rows" in caplog.text
    assert f"{copy} repeats what is there: 2 rows" in caplog.text
    assert once.trial_id not in caplog.text
    assert store.states(tmp_path) == dict.fromkeys(alone["trial_id"], "ok")
    assert store.file_of(tmp_path, twice.trial_id) == own
    own.unlink()
    assert store.file_of(tmp_path, twice.trial_id) == own


def test_names_that_are_not_utf_8_are_names(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"b\xff")
    store.create(root)
    store.write_trial(root, rows(make_trial()))
    store.create(root)
    assert store.finished(root) == {make_trial().trial_id}
    assert len(store.read_trials(root, store.set_aside)) == 1
    history.write(
        root,
        history.Sweep(
            command="python -m dpbench.sweep bad\udcff.toml",
            file_name="bad\udcff.toml",
            file_text="",
            dpbench_version="0",
            started_at="2026-01-02T03:04:05+00:00",
            trial_ids=(),
        ),
    )
    written = store_report.write_report(root)
    assert written is not None
    page = written.page.read_text(encoding="utf-8")
    assert "bad\\udcff.toml" in page
    assert "b\\udcff" in page
    assert not (root / "damaged").exists()


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Files cannot grow beyond the size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_file_of_any_kind_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with small_disk(1000), pytest.raises(OSError, match="File too large"):
        files.write_bytes(path, b"x" * 2000)
    assert list(tmp_path.iterdir()) == []
    files.write_bytes(path, b"whole")
    with small_disk(1000), pytest.raises(OSError, match="File too large"):
        files.write_bytes(path, b"x" * 2000)
    assert path.read_bytes() == b"whole"
    link = tmp_path / "link"
    link.symlink_to("page.html")
    files.write_bytes(link, b"through the link")
    assert link.is_symlink()
    assert path.read_bytes() == b"through the link"
    assert {each.name for each in tmp_path.iterdir()} == {"page.html", "link"}


def test_what_a_killed_writer_has_left_is_removed_an_hour_later(tmp_path: Path) -> None:
    path = tmp_path / "page [1].html"
    old, young = (tmp_path / f".page [1].html.{process}.tmp" for process in (2, 3))
    others = [tmp_path / ".page [1].html.mine.tmp", tmp_path / ".page [1].html.more.4.tmp"]
    for left in (old, young, *others):
        left.write_bytes(b"half of")
        os.utime(left, (time.time() - (0 if left == young else 4000),) * 2)
    folder = tmp_path / ".page [1].html.1.tmp"  # which cannot be removed as a file
    folder.mkdir()
    os.utime(folder, (time.time() - 4000,) * 2)
    files.write_bytes(path, b"whole")
    assert set(tmp_path.iterdir()) == {path, young, folder, *others}


def test_a_report_on_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial(epochs=3)))
    store_report.write_report(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    size = min(len(content) for path, content in before.items() if path.suffix == ".svg") // 2
    for path in before:
        path.unlink()
    with small_disk(size), pytest.raises(BadInput, match=r"Cannot write .*: File too large"):
        store_report.write_report(tmp_path)
    left = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert left.items() < before.items()


def test_no_flipped_bit_in_the_data_is_read(tmp_path: Path) -> None:
    """Pages have checksums; the footer, behind them, is checked by its structure alone."""
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial(epochs=3)))
    (file,) = (tmp_path / "trials").iterdir()
    written, good = file.read_bytes(), store.read_trials(tmp_path)
    footer = len(written) - 8 - int.from_bytes(written[-8:-4], "little")
    rng = random.Random(0)  # noqa: S311
    caught = 0
    for _ in range(40):
        flipped = bytearray(written)
        flipped[rng.randrange(4, footer)] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        frame = store.read_trials(tmp_path)
        caught += frame.empty
        assert frame.empty or frame.equals(good)
    assert caught > 20  # what is left changed nothing


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"Cannot write results to .*file/x.*--out"):
        store.create(tmp_path / "file" / "x")


def test_timings_are_read_as_written(tmp_path: Path) -> None:
    store.create(tmp_path)
    timing = StepTiming(
        dataset="digits",
        model="tutorial-cnn",
        engine="opacus-hooks",
        batch_size=64,
        pair=0,
        order="engine-first",
        steps=3,
        seconds_per_step=0.2,
        baseline_seconds_per_step=0.1,
        peak_memory_bytes=None,
        alone=True,
    )
    store.write_timings(tmp_path, "one", [store.timing_row(timing, WHERE)])
    frame = pd.read_parquet(tmp_path / "timings")
    assert frame["seconds_per_step"].tolist() == [0.2]
    assert frame["alone"].tolist() == [True]


def test_provenance_holds_no_host_name() -> None:
    import platform

    fields = dataclasses.asdict(WHERE)
    assert set(fields) == {field.name for field in dataclasses.fields(Environment)}
    assert platform.node() not in {str(value) for value in fields.values()}
    assert fields["device_name"]
    assert abs((datetime.now(UTC) - WHERE.started_at).total_seconds()) < 3600


def test_hostile_texts_do_no_harm_in_files_nor_in_figures(tmp_path: Path) -> None:
    root = tmp_path / "a <b>&\u540d\u524d 'q' $x^"
    store.create(root)
    for seed in range(2):
        row = writer.rows(seed)[0]
        row |= {"dataset": "</svg><script>x</script> $\\frac$", "engine": "$x^$ & \x07\udcff"}
        store.write_trial(root, [row])
    assert all(
        each in (pa.int64(), pa.float64(), pa.string(), pa.bool_()) or "time" in str(each)
        for each in pq.read_schema(next((root / "trials").iterdir())).types
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        written = store_report.write_report(root)
    assert written is not None
    for drawn in (written.page, *root.glob("*.svg")):
        assert "<script>x" not in drawn.read_text(encoding="utf-8")
