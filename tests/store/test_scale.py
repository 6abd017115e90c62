"""A store of 100,000 trials: run with -m slow; each test prints its times."""

import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from factories import make_trial, rows

from dpbench import store
from dpbench.store import compaction, files, reader
from dpbench.store.schema import TRIALS, table
from dpbench.trial import Trial

TRIALS_COUNT, EPOCHS = 100_000, 3
PLANNING_SECONDS, LOADING_SECONDS = 2, 10

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return [make_trial(epochs=EPOCHS, seed=seed) for seed in range(TRIALS_COUNT)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, trials: list[Trial]) -> Path:
    """A store that was compacted, and files of one trial, almost as many as go into a part.

    The parts are written as compaction writes them, without the hundred thousand files before.
    """
    root = tmp_path_factory.mktemp("large")
    store.create(root)
    pattern = table(rows(trials[0]), TRIALS)
    apart = compaction.TRIALS_A_FILE - 1
    compacted = trials[:-apart]
    for number, start in enumerate(range(0, len(compacted), compaction.TRIALS_A_FILE)):
        some = compacted[start : start + compaction.TRIALS_A_FILE]
        part = pa.concat_tables([pattern] * len(some))
        for name, values in (
            ("trial_id", [trial.trial_id for trial in some for _ in range(EPOCHS)]),
            ("seed", [trial.seed for trial in some for _ in range(EPOCHS)]),
        ):
            at = TRIALS.get_field_index(name)
            part = part.set_column(at, TRIALS.field(at), pa.array(values, TRIALS.field(at).type))
        files.write(root, reader.part(root / "trials", number), part)
    for trial in trials[-apart:]:
        store.write_trial(root, rows(trial))
    return root


def test_planning_takes_two_seconds_at_most(large: Path, trials: list[Trial]) -> None:
    start = time.perf_counter()
    store.create(large)
    states = store.states(large)
    missing = [trial for trial in trials if trial.trial_id not in states]
    seconds = time.perf_counter() - start
    print(f"planning {TRIALS_COUNT:,} trials: {seconds:.2f} s")
    assert missing == []
    assert seconds < PLANNING_SECONDS


def test_loading_takes_ten_seconds_at_most(large: Path) -> None:
    start = time.perf_counter()
    frame = store.read_trials(large)
    seconds = time.perf_counter() - start
    print(f"loading {len(frame):,} rows: {seconds:.2f} s")
    assert len(frame) == TRIALS_COUNT * EPOCHS
    assert not frame.duplicated(["trial_id", "epoch"]).any()
    assert seconds < LOADING_SECONDS


def test_compaction_makes_reading_faster(tmp_path: Path) -> None:
    """A store of 2,000 trials of ten epochs, in CPU seconds: what others run does not count."""
    store.create(tmp_path)
    for seed in range(2_000):
        store.write_trial(tmp_path, rows(make_trial(epochs=10, seed=seed)))
    singly, before = _cpu_seconds(tmp_path)
    assert store.compact(tmp_path) == 2_000
    together, after = _cpu_seconds(tmp_path)
    print(
        f"reading 2,000 trials: {singly:.2f} s of CPU as files of one, {together:.2f} s compacted"
    )
    pd.testing.assert_frame_equal(before, after)
    assert together < singly / 10


def _cpu_seconds(root: Path) -> tuple[float, pd.DataFrame]:
    start = time.process_time()
    frame = store.read_trials(root)
    return time.process_time() - start, frame
