"""Runs the trials that a store lacks, and writes each as it ends."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from dpbench import console, store, strings
from dpbench.execution import estimate, plan
from dpbench.execution.accounting_thread import Accounting, accounting_thread
from dpbench.execution.backend import Backend
from dpbench.execution.progress import Progress
from dpbench.execution.schedule import Row
from dpbench.execution.work_left import WorkLeft
from dpbench.store import claims
from dpbench.trial import Trial


def run_trials(
    trials: Sequence[Trial],
    backend: Backend,
    out: Path,
    retry_failed: bool | None,
    *,
    answer_at: Sequence[float] = (),
    repeating: bool = False,
    stage: str = "",
    quiet: bool,
) -> None:
    """Runs the trials that are missing, each written as it ends.

    Args:
        trials: The whole grid.
        backend: Where.
        out: The store.
        retry_failed: See `plan.missing`.
        answer_at: Epsilons whose best accuracy so far is shown.
        repeating: Whether they repeat shorter ones on purpose: it is not said.
        stage: Which part of a search these are, such as a rung.
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
            (f"{stage.capitalize()}: " if stage else "")
            + f"{strings.counted(len(trials), 'trial')} on {trials[0].dataset}"
            + (f", {done} of them done before" if done else "")
            + (f", {failed} failed before (--retry-failed tries them again)" if failed else "")
            + f": {len(todo)} to run, {backend}; results in {out}"
        )
        if not repeating and (anew := plan.starting_anew(todo, out)):
            console.say(anew)
    longest_first = sorted(todo, key=lambda trial: -cost[trial.trial_id])
    left = WorkLeft(longest_first, cost)
    with (
        Progress(
            len(todo),
            sum(trial.epochs for trial in todo),
            sum(cost.values()),
            left=left.along_the_longest,
            stage=stage,
            beside=min(backend.places, max(1, len(todo))),
            answer_at=answer_at,
            quiet=quiet,
        ) as progress,
        accounting_thread(longest_first) as accounting,
    ):
        epochs = _Epochs(todo, cost, accounting, progress, left)
        with (
            claims.Claims(out, states, on_done=epochs.elsewhere) as claims_held,
            closing(backend.run(longest_first, claims_held, epochs.ended_one)) as results,
        ):
            for trained in results:
                rows = accounting.rows(trained)
                store.write_trial(out, rows)
                epochs.written(rows)


class _Epochs:
    """Counts the epochs of running trials, each once, and notes what they reach.

    Args:
        trials: That are run.
        cost: Of each, by its id.
        accounting: Knows their epsilons.
        progress: Shows it.
        left: Is told how much of each trial is left.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        cost: Mapping[str, float],
        accounting: Accounting,
        progress: Progress,
        left: WorkLeft,
    ) -> None:
        self._trials = {trial.trial_id: trial for trial in trials}
        self._cost, self._accounting, self._progress = cost, accounting, progress
        self._left = left
        self._counted = dict.fromkeys(self._trials, 0)
        poisson = any(trial.sampling == "poisson" for trial in trials if trial.private)
        self._sampling = "poisson" if poisson else "shuffle"  # epsilons of both do not compare

    def ended_one(self, row: Row) -> None:
        """An epoch has ended, of a trial that may be run again."""
        trial = self._trials[row["trial_id"]]
        new = row["epoch"] - self._counted[trial.trial_id]
        if row["status"] != "ok" or new < 1:
            return
        if self._accounting.known(row):
            self._note(trial, self._accounting.rows([row]))
        begins = not self._counted[trial.trial_id] and trial.epochs > new
        work = self._count(trial, new)
        self._progress.advance(new, work=work, begins=begins)

    def written(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """A trial's rows are written."""
        trial = self._trials[rows[-1]["trial_id"]]
        self._note(trial, rows)
        left = trial.epochs - self._counted[trial.trial_id]
        work, failed = self._count(trial, left), rows[-1]["status"] != "ok"
        line = f"{trial}: {_outcome(rows[-1])}"
        self._progress.done(line, parts=left, work=work, failed=failed)

    def elsewhere(self, trial: Trial) -> None:
        """Another sweep has run a trial: that took no time here."""
        left = trial.epochs - self._counted[trial.trial_id]
        self._count(trial, left)
        self._progress.done(f"{trial}: by another sweep", parts=left, work=0.0, failed=False)

    def _count(self, trial: Trial, epochs: int) -> float:
        """Counts so many epochs of the trial; what they cost."""
        self._counted[trial.trial_id] += epochs
        of_epoch = self._cost[trial.trial_id] / trial.epochs
        self._left.note(trial, (trial.epochs - self._counted[trial.trial_id]) * of_epoch)
        return epochs * of_epoch

    def _note(self, trial: Trial, rows: Sequence[Mapping[str, Any]]) -> None:
        if trial.private and trial.sampling != self._sampling:
            return
        for row in rows:
            if not trial.private and row["epoch"] < trial.epochs:
                continue  # a baseline counts at its last epoch alone, as in the answer
            if row["test_accuracy"] is not None and (row["epsilon"] is not None) == trial.private:
                self._progress.reached(row["test_accuracy"], row["epsilon"])


def _outcome(row: Mapping[str, Any]) -> str:
    if row["status"] != "ok":
        return f"{row['status']} in epoch {row['epoch']}: {strings.one_line(row['reason'])}"
    spent = "" if row["epsilon"] is None else f" at epsilon {row['epsilon']:.3g}"
    if row["test_accuracy"] is None:
        return f"loss {row['test_loss']:.4g}{spent}"
    return f"{100 * row['test_accuracy']:.2f} %{spent}"
