"""Runs the rungs of a search that stops trials early, and says how many settings go on."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from dpbench import store, strings
from dpbench.execution.search_plan import SearchPlan
from dpbench.execution.searched_grid import Candidate
from dpbench.search import halving
from dpbench.trial import Trial


def run(
    search: SearchPlan,
    out: Path,
    *,
    choose_by: str | None,
    run_trials: Callable[[Sequence[Trial]], None],
    say: Callable[[str], None],
) -> list[Trial]:
    """Runs each rung's trials; returns all that were asked for, those of the first rung first.

    A trial of a later rung repeats that of an earlier one step by step, since its noise does not
    depend on its epochs, and goes on: a setting that is stopped has spent what it ran.

    Args:
        search: That stops early.
        out: The store, from which the scores are read.
        choose_by: As of `scores.scored`.
        run_trials: Runs those of a rung's trials that the store lacks.
        say: Tells the user.
    """
    assert search.eta is not None
    running: Sequence[Candidate] = search.candidates
    asked = dict.fromkeys(search.trials)
    run_trials(list(asked))
    for rung in range(1, search.rungs):
        ended = [search.of_rung(rung - 1, [each]) for each in running]
        groups = [each.group for each in running]
        kept = halving.promoted(_scores(ended, out, choose_by), groups, search.eta)
        going_on = [running[position] for position in kept]
        trials = search.of_rung(rung, going_on)
        say(_sentence(running, going_on, trials))
        if not going_on:
            break
        asked |= dict.fromkeys(trials)
        run_trials(trials)
        running = going_on
    return list(asked)


def at_most(search: SearchPlan, cost: Callable[[Trial], float]) -> list[list[Trial]]:
    """The costliest trials that can go on to each rung after the first.

    Args:
        search: That stops early.
        cost: Of a trial.
    """
    assert search.eta is not None
    running: Sequence[Candidate] = search.candidates
    found = []
    for rung in range(1, search.rungs):
        costs = [sum(map(cost, search.of_rung(rung, [each]))) for each in running]
        kept = halving.promoted(costs, [each.group for each in running], search.eta)
        running = [running[position] for position in kept]
        found.append(search.of_rung(rung, running))
    return found


def _scores(ended: Sequence[Sequence[Trial]], out: Path, choose_by: str | None) -> list[float]:
    """Of each candidate's trials the mean score on held-out examples; NaN where any has failed."""
    from dpbench.analysis import scores, trial_rows

    ids = [[trial.trial_id for trial in trials] for trials in ended]
    rows = store.read_trials(out, store.set_aside)
    last = trial_rows.final(
        rows[rows["trial_id"].isin({each for several in ids for each in several})]
    )
    if last.empty:
        return [math.nan] * len(ids)
    by_id = scores.scored(last, choose_by).set_index("trial_id")["validation_score"]
    return [float(by_id.reindex(several).mean(skipna=False)) for several in ids]


def _sentence(
    running: Sequence[Candidate], going_on: Sequence[Candidate], trials: Sequence[Trial]
) -> str:
    epochs = sorted({trial.epochs for trial in trials})
    length = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else "".join(map(str, epochs))
    of_label = [
        f"{sum(each.label == label for each in going_on)} of "
        f"{sum(each.label == label for each in running)} {label}"
        for label in dict.fromkeys(each.label for each in running)
    ]
    detail = f" ({', '.join(of_label)})" if len(of_label) > 1 else ""
    verb = "goes" if len(going_on) == 1 else "go"
    return (
        f"Early stopping: {len(going_on)} of {strings.counted(len(running), 'setting')} "
        f"{verb} on{f' to {length} epochs' if epochs else ''}{detail}."
    )
