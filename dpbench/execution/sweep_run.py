"""Runs what is missing of a planned sweep: trials, confirmations, timings; writes the report."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import console, datasets, store, strings
from dpbench.errors import BadInput
from dpbench.execution import changed_code, engine_checks, timing_sweep, trial_sweep
from dpbench.execution.resources import Resources, open_backend
from dpbench.execution.sweep_plan import SweepPlan
from dpbench.execution.user_work import UserWork
from dpbench.store import history
from dpbench.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

    from dpbench.execution.backend import Backend
    from dpbench.reporting.store_report import Written
    from dpbench.store.history import Sweep


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepResult:
    """What a sweep came to.

    Attributes:
        trials: A row per trial and epoch of the sweep's trials, confirmations included.
        report: Of the store, with the answer of this sweep's trials.
        unfinished: A line for each trial or timing that has failed; empty where all is well.
    """

    trials: "pd.DataFrame"
    report: "Written | None"
    unfinished: tuple[str, ...]


def run_planned(
    plan: SweepPlan,
    resources: Resources,
    record: "Sweep",
    *,
    retry_failed: bool | None,
    timings: bool,
    quiet: bool,
) -> SweepResult:
    """Runs what is missing of the plan, and writes the report.

    Args:
        plan: With at least one trial.
        resources: What it runs on.
        record: Who asked for it; its trials are filled in here.
        retry_failed: As of `sweeps.run_sweep`.
        timings: As of `sweeps.run_sweep`.
        quiet: Whether to print no progress and no warnings.

    Raises:
        BadInput: The store holds another dataset or cannot be written to, the dataset cannot be
            read, or a device is missing.
    """
    refuse_other_dataset(plan)
    if not quiet:
        for warning in (*plan.warnings, *resources.warnings):
            console.say(f"Warning: {warning}")
        if plan.search is not None:
            console.say(plan.search.sentence)
    record = replace(record, trial_ids=tuple(trial.trial_id for trial in plan.trials))
    user = UserWork.of(plan.trials)
    with open_backend(
        resources, dataset=plan.dataset, data_root=plan.data_root, user=user
    ) as backend:
        _check_dataset(plan, on_cluster=resources.on_cluster)
        engine_checks.refuse(plan.trials, plan.data_root)
        if not quiet:
            for line in changed_code.notices(plan.trials, plan.out):
                console.say(line)
        store.create(plan.out)
        store.write_sources(plan.out, user.codes)
        history.write(plan.out, record)
        trials, record = _run_trials(plan, backend, record, retry_failed=retry_failed, quiet=quiet)
        timed = _timed(plan, trials) if timings else []
        failed = timing_sweep.run_timings(timed, backend, plan.out, quiet=quiet) if timings else []
    return _result(plan.out, record, failed)


def _run_trials(
    plan: SweepPlan, backend: "Backend", record: "Sweep", *, retry_failed: bool | None, quiet: bool
) -> "tuple[list[Trial], Sweep]":
    """Runs the trials and then the confirmations; returns the former, and the record of both."""
    out = plan.out
    run_missing = partial(
        trial_sweep.run_trials,
        backend=backend,
        out=out,
        retry_failed=retry_failed,
        answer_at=plan.answer_at,
        quiet=quiet,
    )
    trials, record = _run_search(plan, record, run_missing, places=backend.places, quiet=quiet)
    if not plan.confirming_seeds:
        return trials, record
    from dpbench.analysis import choice, scores

    rows = scores.scored(store.read_trials(out, store.set_aside), plan.choose_by)
    again = choice.again(trials, rows, plan.answer_at, plan.confirming_seeds)
    record = replace(record, confirming=tuple(trial.trial_id for trial in again))
    history.write(out, record)
    if again:
        if not quiet:
            console.say(f"The best again, on {strings.named('seed', plan.confirming_seeds)}:")
        run_missing(again)
    return trials, record


def _run_search(
    plan: SweepPlan,
    record: "Sweep",
    run_missing: Callable[..., None],
    *,
    places: int,
    quiet: bool,
) -> "tuple[list[Trial], Sweep]":
    """Runs the trials; where a search asks for more as it goes, each batch once it is recorded."""
    search = plan.search
    if search is None or (search.eta is None and not search.studies):
        run_missing(plan.trials)
        return list(plan.trials), record

    rungs = itertools.count(1)

    def run_batch(trials: Sequence[Trial]) -> None:
        record_all(trials)
        stage = f"rung {next(rungs)} of {search.rungs}" if search.eta is not None else ""
        run_missing(trials, repeating=True, stage=stage)

    def record_all(trials: Sequence[Trial]) -> None:
        nonlocal record
        ids = dict.fromkeys([*record.trial_ids, *(trial.trial_id for trial in trials)])
        record = replace(record, trial_ids=tuple(ids))
        history.write(plan.out, record)

    say = (lambda _: None) if quiet else console.say
    if search.studies:
        from dpbench.execution import model_search

        trials = model_search.run(
            search, plan.out, choose_by=plan.choose_by, places=places, run_trials=run_batch, say=say
        )
        record_all(trials)
    else:
        from dpbench.execution import early_stopping

        trials = early_stopping.run(
            search, plan.out, choose_by=plan.choose_by, run_trials=run_batch, say=say
        )
    return trials, record


def _timed(plan: SweepPlan, trials: Sequence[Trial]) -> Sequence[Trial]:
    """The trials whose engines are timed: of a search those of the settings that are chosen."""
    if plan.search is None:
        return plan.timed
    from dpbench.analysis import choice, scores

    rows = scores.scored(store.read_trials(plan.out, store.set_aside), plan.choose_by)
    return choice.best(trials, rows, plan.answer_at) or plan.timed


def _result(out: Path, record: "Sweep", failed_timings: Sequence[str]) -> SweepResult:
    from dpbench.reporting import store_report, terminal

    rows = store.read_trials(out, store.set_aside)
    ids = [*record.trial_ids, *record.confirming]
    return SweepResult(
        trials=rows[rows["trial_id"].isin(ids)].reset_index(drop=True),
        report=store_report.write_report(out, own=record),
        unfinished=(*terminal.unfinished(rows, ids), *failed_timings),
    )


def refuse_other_dataset(plan: SweepPlan) -> None:
    """Raises BadInput where the store holds trials, and none of them on the plan's dataset."""
    out = plan.out
    if not (out / "trials").is_dir():  # a folder that cannot be written to is refused later
        return
    rows = store.load(out, "trials", ["dataset"], on_damage=lambda *_: None)
    there = rows["dataset"].unique().to_pylist()
    if len(there) and plan.dataset not in there:
        raise BadInput(
            f"Expected {out} to hold trials on {plan.dataset}, not on {', '.join(sorted(there))}: "
            "name another folder with --out."
        )


def _check_dataset(plan: SweepPlan, *, on_cluster: bool) -> None:
    """Loads a dataset that may be missing or damaged, so that it is refused once and early."""
    if on_cluster or datasets.unpacked(plan.dataset, plan.data_root):
        return
    from dpbench.datasets import loading

    loading.load(plan.dataset, plan.data_root, "cpu")
