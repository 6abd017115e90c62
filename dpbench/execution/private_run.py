"""Runs a private search: draws it, or goes on with the one that was drawn, and finds the best."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import console, store
from dpbench.errors import BadInput
from dpbench.execution import engine_checks, private_plan, sweep_run
from dpbench.execution.resources import Resources
from dpbench.execution.sweep_plan import SweepPlan
from dpbench.store import private_searches
from dpbench.trial import PASSING_FAILURES

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
    noise: the machine has ended it, nothing of it was scored, and so it is one run. A run that
    diverged is a result, and so is one that failed by an error: with other noise it would be a
    second draw.
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


def run(plan: SweepPlan, resources: Resources, record: "Sweep", *, quiet: bool) -> Found:
    """Runs what is missing of the search, and writes the report.

    Args:
        plan: With a private search.
        resources: What it runs on.
        record: Who asked for it.
        quiet: Whether to print no progress and no warnings.

    Raises:
        BadInput: As of `sweep_run.run_planned` and `private_plan.drawn`.
        StoreError: The store cannot be read or written to.
    """
    assert plan.private is not None
    sweep_run.refuse_other_dataset(plan)
    store.create(plan.out)
    fastest = partial(engine_checks.fastest_right, data_root=plan.data_root)
    search, trials = private_plan.drawn(plan.private, plan.out, fastest=fastest)
    if not quiet:
        console.say(sentence(plan.private, search))
    if not trials:
        return Found(best=_best(plan.out, search), trials=None, page=None, unfinished=())
    result = sweep_run.run_planned(
        replace(plan, trials=trials, private=None),
        resources,
        record,
        retry_failed=None,
        timings=False,
        quiet=quiet,
    )
    again = result.trials[result.trials["status"].isin(PASSING_FAILURES)]
    waiting = set(search.trial_ids) - set(result.trials["trial_id"])
    unfinished = [
        f"The run {trial_id} {status}: the same command tries it again."
        for trial_id, status in zip(again["trial_id"], again["status"], strict=True)
    ]
    if waiting:
        unfinished.append(f"{len(waiting)} runs are not there: run the same command again.")
    return Found(
        best=_best(plan.out, search),
        trials=result.trials,
        page=None if result.report is None else result.report.page,
        unfinished=tuple(unfinished),
    )


def _best(out: Path, search: private_searches.PrivateSearch) -> "PrivateBest":
    from dpbench.analysis import private_best, scores

    rows = store.read_trials(out, store.set_aside)
    others = [each for each in private_searches.read(out) if each.key != search.key]
    return private_best.best(search, scores.scored(rows), others)


def sentence(asked: private_plan.Request, search: private_searches.PrivateSearch) -> str:
    """What the search draws and spends, for the terminal."""
    return (
        f"Private selection: the number of runs is drawn from {asked.count} (distribution:mean), "
        f"once; the whole search spends epsilon {search.epsilon:.4g} at delta {search.delta:g}. "
        f"Runs are scored on {search.held_out:,} held-out examples."
    )
