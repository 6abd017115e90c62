"""Accounting off the critical path: a thread computes epsilons while trials train."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

from dpbench import datasets
from dpbench.execution.schedule import Row
from dpbench.processes import signals
from dpbench.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """What the thread has computed, and computes.

    Attributes:
        rows: A trial's rows with their epsilons; waits for them.
        known: Whether those of a row's trial are computed already.
    """

    rows: Callable[[Sequence[Row]], list[Row]]
    known: Callable[[Row], bool]


@contextmanager
def accounting_thread(trials: Sequence[Trial]) -> Iterator[Accounting]:
    """Yields what adds the epsilons to trials' rows.

    A thread computes them while the trials train, once for each noise, sample rate and number of
    steps, in the order in which the trials start.
    """
    planned: dict[tuple[object, ...], Future[None]] = {}
    ended = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        with signals.blocked():  # the thread inherits the mask; this one handles Ctrl-C
            for trial in trials:
                if _mechanism(trial) not in planned:
                    planned[_mechanism(trial)] = thread.submit(_account_for, trial, ended)
            for name in ("dpbench.reporting.store_report", "seaborn"):  # 0.6 s each at the end
                thread.submit(import_module, name)
        by_id = {trial.trial_id: planned[_mechanism(trial)] for trial in trials}

        def accounted(rows: Sequence[Row]) -> list[Row]:
            from dpbench.privacy import accounting

            wait([by_id[rows[0]["trial_id"]]])
            return [dict(row) | accounting.columns(row) for row in rows]

        try:
            yield Accounting(rows=accounted, known=lambda row: by_id[row["trial_id"]].done())
        finally:
            ended.set()
            thread.shutdown(cancel_futures=True)


def _mechanism(trial: Trial) -> tuple[object, ...]:
    """Equal for trials that spend the same."""
    return (
        *(trial.dataset, trial.validation_examples, trial.batch_size, trial.sampling),
        *(trial.noise_multiplier, trial.delta, trial.epochs),
    )


def _account_for(trial: Trial, ended: threading.Event) -> None:
    """Has `accounting` remember what the trial will have spent after each epoch, until `ended`."""
    if not trial.private:
        return
    from dpbench.privacy import accounting

    of = (trial.dataset, trial.batch_size, trial.validation_examples or 0)
    for epoch in range(1, trial.epochs + 1):
        if ended.is_set():
            return
        accounting.spent_by(
            trial,
            sample_rate=datasets.sample_rate(*of),
            steps=epoch * datasets.steps_per_epoch(*of),
            epochs=epoch,
        )
