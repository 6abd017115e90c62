"""Runs a search by Optuna: an even start, and then what the store's scores say is worth trying."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import store
from dpbench.execution import studies
from dpbench.execution.search_plan import SearchPlan
from dpbench.execution.studies import Study
from dpbench.search import surface
from dpbench.trial import Trial

if TYPE_CHECKING:
    import pandas as pd


def run(
    search: SearchPlan,
    out: Path,
    *,
    choose_by: str | None,
    places: int,
    run_trials: Callable[[Sequence[Trial]], None],
    say: Callable[[str], None],
) -> list[Trial]:
    """Runs what each study asks for, as many trials as run at a time; returns all that count.

    Nothing is kept but the store: what is in it is told to Optuna anew before each batch. So the
    same command resumes, and a larger search goes on from a smaller one.

    Args:
        search: By Optuna.
        out: The store, from which the scores are read.
        choose_by: As of `scores.scored`.
        places: Trials, or stacks of them, that run at a time.
        run_trials: Runs those of the trials that the store lacks.
        say: Tells the user.
    """
    counted = dict.fromkeys(search.trials)
    run_trials(list(counted))
    waiting: list[Study] = list(search.studies)
    while waiting:
        rows = _scored(out, choose_by)
        batch: list[Trial] = []
        for study in list(waiting):
            known = study.told(rows)
            told = [each for each, _ in known]
            counted |= dict.fromkeys(trial for _, each in known for trial in each.trials)
            say(studies.sentence(study, told, search.count))
            beside = len(waiting) * len(study.grid.seed) * len(study.grid.engine)
            size = min(search.count - len(told), max(1, places // beside))
            asked = study.next(told, size) if size > 0 and told else []
            if not asked:
                waiting.remove(study)
            batch += [trial for each in asked for trial in study.candidate(each).trials]
        if batch:
            counted |= dict.fromkeys(batch)
            run_trials(batch)
    return list(counted)


def at_most(search: SearchPlan, cost: Callable[[Trial], float]) -> list[Trial]:
    """The costliest of the first candidates, as often as more may be asked for.

    Args:
        search: That may ask.
        cost: Of a trial.
    """
    more = max(0, search.count - surface.STARTUP) * len(search.studies)
    if not (more and search.candidates):
        return []
    costliest = max(search.candidates, key=lambda each: sum(map(cost, each.trials)))
    return list(costliest.trials) * more


def _scored(out: Path, choose_by: str | None) -> "pd.DataFrame":
    from dpbench.analysis import scores

    return scores.scored(store.read_trials(out, store.set_aside), choose_by)
