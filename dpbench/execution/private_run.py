"""Runs a private search: draws it, or goes on with the one that was drawn, and finds the best."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import console, store, strings
from dpbench.errors import BadInput
from dpbench.execution import engine_checks, private_plan, private_request, sweep_run
from dpbench.execution.resources import Resources
from dpbench.execution.sweep_plan import SweepPlan
from dpbench.observations import PASSING_FAILURES
from dpbench.privacy import guarantee
from dpbench.store import private_searches

if TYPE_CHECKING:
    import pandas as pd

    from dpbench.analysis.private_best import PrivateBest
    from dpbench.store.history import Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a private search has come to.

    Attributes:
        best: Its best run, with the guarantee.
        trials: A row per run and epoch; None where no run was drawn.
        page: The report's path; None where the store holds no rows.
        unfinished: A line on each run that the same command tries again; empty where none is left.
    """

    best: "PrivateBest"
    trials: "pd.DataFrame | None"
    page: Path | None
    unfinished: tuple[str, ...]


def refuse(*, retry_failed: bool | None, trial_timeout: float | None) -> None:
    """Raises BadInput for what would make a run depend on more than its own draw.

    A run whose process died, or for which there was too little memory, starts again with fresh
    noise, until the best is named: the machine has ended it, nothing of it was scored, and so it is
    one run. A run that diverged is a result, and so is one that failed by an error: with other
    noise it would be a second draw.
    """
    if retry_failed:
        raise BadInput(
            "Expected no --retry-failed with --private-selection: a run that failed is a result, "
            "and another try with other noise would be a run that the bound does not count."
        )
    if trial_timeout is not None:
        raise BadInput(
            "Expected no --trial-timeout with --private-selection: how long a run takes may depend "
            "on the examples, and the bound does not cover that."
        )


def run(
    plan: SweepPlan,
    resources: Resources,
    record: "Sweep",
    *,
    retry_failed: bool | None = None,
    quiet: bool,
) -> Found:
    """Runs what is missing of the search, and writes the report.

    Args:
        plan: With a private search.
        resources: What it runs on.
        record: Who asked for it.
        retry_failed: None tries runs that crashed again, False takes them for the lowest.
        quiet: Whether to print no progress and no warnings.

    Raises:
        BadInput: As of `sweep_run.run_planned` and `private_plan.drawn`, or rows of a search that
            has ended are missing.
        StoreError: The store cannot be read or written to.
    """
    assert plan.private is not None
    refuse(retry_failed=retry_failed, trial_timeout=resources.trial_timeout)
    sweep_run.refuse_other_dataset(plan)
    store.create(plan.out)
    fastest = partial(engine_checks.fastest_right, data_root=plan.data_root)
    search, trials = private_plan.drawn(plan.private, plan.out, fastest=fastest)
    if not quiet:
        console.say(sentence(plan.private, search))
    if not trials:
        return Found(best=_best(plan.out, search), trials=None, page=None, unfinished=())
    if search.ended and set(search.trial_ids) - set(store.states(plan.out)):
        raise BadInput(
            f"Rows of this search are missing from {plan.out}, and its best run was named: to "
            "train them again, with other noise, is not covered. Restore them, or name another "
            "folder with --out for a new search; its epsilon adds."
        )
    # The progress shows no accuracy: who stops, or publishes another run, by what it shows, makes
    # a choice that the bound does not cover. The score decides, once all runs have ended.
    result = sweep_run.run_planned(
        replace(plan, trials=trials, private=None, answer_at=()),
        resources,
        record,
        retry_failed=False if search.ended else retry_failed,
        timings=False,
        quiet=quiet,
    )
    unfinished = () if search.ended else _unfinished(search, result.trials, retry_failed)
    if not (unfinished or search.ended):
        from dpbench.reporting import store_report

        search = replace(search, ended=True)
        private_searches.note(plan.out, search)
        store_report.write_report(plan.out)  # which names the best run now
    return Found(
        best=_best(plan.out, search),
        trials=result.trials,
        page=None if result.report is None else result.report.page,
        unfinished=tuple(unfinished),
    )


def _unfinished(
    search: private_searches.PrivateSearch, trials: "pd.DataFrame", retry_failed: bool | None
) -> list[str]:
    """A line on each run that the same command tries again."""
    crashed = trials[trials["status"].isin(PASSING_FAILURES)] if retry_failed is None else None
    lines = []
    if crashed is not None and len(crashed):
        lines += [
            f"The run {trial_id} ended with: {status}."
            for trial_id, status in zip(crashed["trial_id"], crashed["status"], strict=True)
        ]
        lines.append(
            "The same command tries these again; with --no-retry-failed they score lowest, and the "
            "best of the others is named."
        )
    if waiting := len(set(search.trial_ids) - set(trials["trial_id"])):
        lines.append(f"{strings.counted(waiting, 'run')} to go: run the same command again.")
    return lines


def _best(out: Path, search: private_searches.PrivateSearch) -> "PrivateBest":
    from dpbench.analysis import private_best, scores

    rows = store.read_trials(out, store.set_aside)
    others = [each for each in private_searches.read(out) if each.key != search.key]
    return private_best.best(search, scores.scored(rows), others)


def sentence(asked: private_request.Request, search: private_searches.PrivateSearch) -> str:
    """What the search draws and spends, for the terminal."""
    return (
        f"Private selection: the number of runs is drawn once, from the {asked.count.in_words}; "
        f"the whole search spends epsilon {guarantee.rounded_up(search.epsilon)} at delta "
        f"{guarantee.short(search.delta)}. "
        f"Runs are scored on {search.held_out:,} held-out examples."
    )
