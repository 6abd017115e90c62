"""What a sweep has to run: the trials and the timings that its store does not hold yet."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import engines, store, strings
from dpbench.analysis import trial_rows
from dpbench.execution.timing_task import processes_of
from dpbench.observations import FAILURES, PASSING_FAILURES
from dpbench.store import outcomes
from dpbench.trial import NON_PRIVATE, Trial, Workload

if TYPE_CHECKING:
    import pandas as pd


def missing(
    trials: Sequence[Trial], states: Mapping[str, str], retry_failed: bool | None
) -> list[Trial]:
    """The trials to run: those without a result, and of the failed ones those to try again.

    Args:
        trials: The whole grid.
        states: As of `store.states`.
        retry_failed: Whether to try all failed trials again, or none; None for those that crashed
            or found too little memory.
    """
    again = {None: PASSING_FAILURES, True: tuple(FAILURES), False: ()}[retry_failed]
    return [trial for trial in trials if states.get(trial.trial_id) in (None, *again)]


def starting_anew(todo: Sequence[Trial], out: Path) -> str | None:
    """A sentence on the trials that the store holds with fewer epochs; None where there is none.

    Args:
        todo: Trials to run.
        out: The store, there or not.
    """
    rows = store.load(out, "trials", outcomes.COLUMNS, on_damage=lambda *_: None)
    shorter = sorted(set(rows["epochs"].to_pylist()))
    finished = {each for each, state in outcomes.of(rows).items() if state == "ok"}
    again = [
        trial
        for trial in todo
        if any(
            replace(trial, epochs=epochs).trial_id in finished
            for epochs in shorter
            if epochs < trial.epochs
        )
    ]
    if not again:
        return None
    return (
        f"{strings.counted(len(again), 'trial')} of {out} with fewer epochs "
        f"{'is' if len(again) == 1 else 'are'} asked for with more, and start"
        f"{'s' if len(again) == 1 else ''} anew: a store holds rows, and no weights to go on from."
    )


def timed(trials: Sequence[Trial]) -> list[tuple[str, Workload]]:
    """The engines to time, and what to time them on.

    Those are the engines of the trials, non-private against itself, which shows the noise of the
    machine, and, where all is built in, every private engine that has a step of its own for the
    model. Of a user's own task they are not: `dpbench check` and `dpbench timing` compare engines.
    """
    batch_sizes = sorted({trial.batch_size for trial in trials})
    found = []
    for model in dict.fromkeys(trial.model for trial in trials):
        first = next(trial for trial in trials if trial.model == model)
        workloads = [Workload.of(first, size) for size in batch_sizes]
        trained = {trial.engine for trial in trials if trial.model == model}
        found += [
            (engine, workload)
            for engine in engines.names()
            if engine in (NON_PRIVATE, *trained)
            or (
                not workloads[0].of_user
                and engine in engines.private_names()
                and engines.has_own_step(engine, workloads[0])
            )
            for workload in workloads
        ]
    return found


def untimed(
    trials: Sequence[Trial], known: "pd.DataFrame", conditions: Mapping[str, object]
) -> list[tuple[str, Workload]]:
    """The engines that are still to be timed, and what to time them on.

    Those that an older dpbench has timed in fewer processes are among them.

    Args:
        trials: The whole grid.
        known: Rows of `store.read_timings`; what was measured on another machine, or with other
            threads or versions, does not count.
        conditions: Of each of TIMED_UNDER, or of those that are known.
    """
    import pandas as pd

    known = trial_rows.where(known, {"dataset": trials[0].dataset, **conditions})
    key = ["engine", *(field.name for field in fields(Workload))]
    # a null is no key that Python finds again
    texts = known[key].astype(object).where(known[key].notna(), None).assign(of=known["process"])
    processes = texts.groupby(key, dropna=False)["of"].nunique()
    done = {
        tuple(None if pd.isna(each) else each for each in index): count
        for index, count in processes.items()
    }
    return [
        (engine, workload)
        for engine, workload in timed(trials)
        if done.get((engine, *astuple(workload)), 0) < processes_of(workload)
    ]
