import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import make_trial, mostly_slow

from dpbench.execution import backend, local, trial_task
from dpbench.observations import Epoch
from dpbench.trial import Trial

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LIBC = platform.libc_ver()
WHERE_COLUMNS = {"train_seconds", "examples_per_second", "workers_beside", "started_at"}


def workers(jobs: int = 2) -> backend.Workers:
    return backend.Workers(
        data_root=Path("unused"),
        devices=("cpu",),
        jobs=jobs,
        threads=1,
        physical_batch_size=512,
    )


def numbers(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows without what may differ from run to run."""
    return [{k: v for k, v in row.items() if k not in WHERE_COLUMNS} for row in rows]


Run = Callable[[list[Trial], backend.Workers], list[list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs trials as `local.run`, in worker processes that all tests here share."""
    with local.worker_pool(workers()) as pool:
        yield lambda trials, how: list(local.run_in_pool(pool, trials, how))


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return [make_trial("non-private"), make_trial(), make_trial(seed=1)]


def test_in_parallel_or_alone_the_numbers_are_the_same_bits(trials: list[Trial], run: Run) -> None:
    together = {rows[0]["trial_id"]: rows for rows in run(trials, workers())}
    assert set(together) == {trial.trial_id for trial in trials}
    for trial in trials:
        alone = list(trial_task.run_trial(trial, workers(), concurrent=0))
        assert numbers(alone) == numbers(together[trial.trial_id])


def test_a_trial_that_fails_is_a_row_and_the_others_go_on(
    trials: list[Trial], tmp_path: Path, run: Run
) -> None:
    diverging = make_trial("non-private", learning_rate=1e9, epochs=2)
    missing = make_trial(dataset="kmnist")
    empty = replace(workers(), data_root=tmp_path)  # where the missing data's folder is made
    results = {rows[0]["trial_id"]: rows for rows in run([diverging, missing, trials[0]], empty)}
    assert [row["status"] for row in results[trials[0].trial_id]] == ["ok"]
    (row,) = results[diverging.trial_id]
    assert (row["status"], row["epoch"], row["test_accuracy"]) == ("failed", 1, None)
    assert str(row["reason"]).startswith("diverged: train loss nan")
    (row,) = results[missing.trial_id]
    assert row["status"] == "failed"
    assert "Cannot load dataset=kmnist" in str(row["reason"])


def test_a_row_says_how_many_ran_beside_it(trials: list[Trial], run: Run) -> None:
    for jobs, count in ((2, 3), (2, 1)):
        (rows, *_) = run(trials[:count], workers(jobs))
        assert rows[0]["workers_beside"] == min(jobs, count) - 1
        assert rows[0]["threads"] == 1


def test_nothing_to_run_is_no_error() -> None:
    assert list(local.run([], workers())) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_trial_lost_on_a_gpu_is_a_row_where_there_is_none() -> None:
    on_gpu = replace(workers(), devices=("cuda:0",))
    seen = Epoch(epoch=2, status="crashed", reason="died")
    row = trial_task.failed_row(make_trial("fused"), seen, on_gpu, concurrent=0)
    assert (row["device"], row["device_name"]) == ("cuda:0", None)
    assert (row["implementation"], row["memory_format"]) == ("bookkeeping", "contiguous")
    (row,) = trial_task.run_trial(make_trial("fused"), on_gpu, concurrent=0)
    assert (row["status"], row["device"]) == ("failed", "cuda:0")


@pytest.mark.parametrize("stack", mostly_slow([1, 2], lambda stack: stack == 1))
def test_a_trial_of_an_unknown_model_is_a_failure_with_its_name(stack: int, run: Run) -> None:
    asked = [make_trial("fused", model="resnet-50", seed=1, learning_rate=x) for x in (0.1, 0.2)]
    how = backend.Workers(
        data_root=Path("unused"),
        devices=("cpu",),
        jobs=1,
        threads=1,
        physical_batch_size=None,
        stack=stack,
    )
    found = [row for rows in run(asked, how) for row in rows]
    assert [row["status"] for row in found] == ["failed"] * 2
    assert all("Unknown model 'resnet-50'" in row["reason"] for row in found)
