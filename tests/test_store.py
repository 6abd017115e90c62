import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import make_trial

from dpbench import environment, store
from dpbench.trial import BadInput, Environment, Epoch, StepTiming, Trial

WHERE = environment.describe(
    implementation="opacus-hooks",
    device="cpu",
    threads=1,
    memory_format="contiguous",
    physical_batch_size=512,
    workers_beside=1,
)


def rows(trial: Trial, epochs: int | None = None) -> list[dict[str, object]]:
    seen = [
        Epoch(
            epoch=epoch,
            steps=22 * epoch,
            test_accuracy=0.5,
            epsilon=float(epoch) if trial.private else None,
            accountant="prv" if trial.private else None,
        )
        for epoch in range(1, (epochs or trial.epochs) + 1)
    ]
    return [store.trial_row(trial, epoch, WHERE) for epoch in seen]


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
            "schema_version trial_id dataset model engine sampling noise_multiplier max_grad_norm "
            "batch_size learning_rate momentum epochs seed delta epoch steps sample_rate "
            "examples_seen train_loss test_loss test_accuracy epsilon accountant epsilon_prv "
            "epsilon_rdp epsilon_gdp epsilon_note train_seconds examples_per_second status reason "
            "dpbench_version dpbench_commit python_version torch_version opacus_version "
            "implementation device device_name threads memory_format physical_batch_size "
            "workers_beside started_at"
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

    def dies(*_: object) -> None:
        half = next((tmp_path / "trials").glob(".*.tmp"))
        assert len(pd.read_parquet(tmp_path / "trials")) == 1  # while the file is half written
        assert half.stat().st_size >= 0
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", dies)
    with pytest.raises(KeyboardInterrupt):
        store.write_trial(tmp_path, rows(make_trial(seed=1)))
    assert len(list((tmp_path / "trials").iterdir())) == 1


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
    with pytest.raises(BadInput, match=r"schema version 99 .* upgrade dpbench"):
        store.read_trials(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial()))
    (file,) = (tmp_path / "trials").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BadInput, match=f"{file.name} is damaged"):
        store.read_trials(tmp_path)


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
