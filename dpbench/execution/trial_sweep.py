"""Runs the trials that a store lacks, and writes each as it ends."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from dpbench import console, store, strings
from dpbench.execution import estimate, plan
from dpbench.execution.accounting_thread import accounting_thread
from dpbench.execution.backend import Backend
from dpbench.execution.progress import Progress
from dpbench.store import claims
from dpbench.trial import Trial


def run_trials(
    trials: Sequence[Trial],
    backend: Backend,
    out: Path,
    retry_failed: bool | None,
    *,
    quiet: bool,
) -> None:
    """Runs the trials that are missing, each written as it ends.

    Args:
        trials: The whole grid.
        backend: Where.
        out: The store.
        retry_failed: See `plan.missing`.
        quiet: Whether to print nothing.
    """
    states = store.states(out, store.set_aside)
    todo = plan.missing(trials, states, retry_failed)
    done = sum(states.get(trial.trial_id) == "ok" for trial in trials)
    failed = len(trials) - len(todo) - done
    measured = estimate.measured_rates(out, device=backend.device)
    cost = {trial.trial_id: estimate.training_seconds(trial, measured) for trial in todo}
    if not quiet:
        console.say(
            f"{len(trials)} trials on {trials[0].dataset}"
            + (f", {done} of them done before" if done else "")
            + (f", {failed} failed before (--retry-failed tries them again)" if failed else "")
            + f": {len(todo)} to run, {backend}; results in {out}"
        )
    by_id = {trial.trial_id: trial for trial in todo}
    longest_first = sorted(todo, key=lambda trial: -cost[trial.trial_id])
    with (
        Progress(len(todo), sum(cost.values()), quiet=quiet) as progress,
        claims.Claims(
            out,
            states,
            on_done=lambda trial: progress.done(
                f"{trial}: by another sweep", work=cost[trial.trial_id], failed=False
            ),
        ) as claims_held,
        accounting_thread(longest_first) as accounted,
        closing(backend.run(longest_first, claims_held)) as results,
    ):
        for trained in results:
            rows = accounted(trained)
            store.write_trial(out, rows)
            last = rows[-1]
            trial = by_id[last["trial_id"]]
            progress.done(
                f"{trial}: {_outcome(last)}",
                work=cost[trial.trial_id],
                failed=last["status"] != "ok",
            )


def _outcome(row: Mapping[str, Any]) -> str:
    if row["status"] != "ok":
        return f"{row['status']} in epoch {row['epoch']}: {strings.one_line(row['reason'])}"
    spent = "" if row["epsilon"] is None else f" at epsilon {row['epsilon']:.3g}"
    if row["test_accuracy"] is None:
        return f"loss {row['test_loss']:.4g}{spent}"
    return f"{100 * row['test_accuracy']:.2f} %{spent}"
