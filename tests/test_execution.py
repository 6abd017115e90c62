"""What a sweep does while its trials run."""

import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import make_trial

from dpbench import command, execution, runner, store
from dpbench.processes.schedule import Claims
from dpbench.trial import Trial


class OneByOne(runner.Here):
    """Runs its trials here, one after the other, whatever it says of their number."""

    def run(self, trials: Sequence[Trial], claims: Claims) -> Generator[list[dict[str, Any]]]:
        for trial in trials:
            yield list(runner.run_trial(trial, self.workers, beside=0))


def place(jobs: int, threads: int) -> OneByOne:
    return OneByOne(
        runner.Workers(
            data_root=Path("unused"),
            devices=("cpu",),
            jobs=jobs,
            threads=threads,
            physical_batch_size=None,
        )
    )


@pytest.mark.parametrize(
    ("jobs", "threads", "ended"),
    [(1, 1, 0), (2, 1, 2), (4, 1, 2), (1, 2, 3)],
    ids=["a core is idle from the start", "at the last trial", "more jobs", "more threads"],
)
def test_work_starts_when_trials_leave_a_core_idle(
    jobs: int, threads: int, ended: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "cores", lambda: 2)
    trials = [make_trial("non-private", seed=seed) for seed in range(3)]
    seen = []

    def work() -> None:
        seen.append(len(list((tmp_path / "trials").glob("*.parquet"))))

    store.create(tmp_path)
    execution.run_trials(trials, place(jobs, threads), tmp_path, None, quiet=True, meanwhile=work)
    assert seen == [ended]


def test_work_has_ended_when_the_trials_have(tmp_path: Path) -> None:
    ended = threading.Event()

    def work() -> None:
        threading.Event().wait(1.0)
        ended.set()

    trials = [make_trial("non-private")]
    store.create(tmp_path)
    execution.run_trials(trials, place(1, 1), tmp_path, None, quiet=True, meanwhile=work)
    assert ended.is_set()
