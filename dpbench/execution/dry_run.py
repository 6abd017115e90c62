"""What a sweep would run: its trials, what each will spend, and the time. No torch on a CPU."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dpbench import datasets, store, strings
from dpbench.execution import early_stopping, estimate, model_search
from dpbench.execution.backend import Backend
from dpbench.execution.local import LocalBackend
from dpbench.execution.plan import missing, starting_anew, untimed
from dpbench.execution.progress import duration
from dpbench.execution.search_plan import SearchPlan
from dpbench.execution.timing_task import processes_of
from dpbench.privacy import accounting
from dpbench.trial import Trial, Workload

MOST_LINES = 20  # of trials; of more the first and the last are shown, and all by --json
_LAST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep before it runs.

    Attributes:
        trials: The whole grid.
        epsilons: What each will have spent by its last epoch; None if non-private.
        states: Of each, as of `store.states`; None if it has not run.
        todo: Those that will run.
        timings: Engines and workloads that will be timed, after them.
        place: Where, and how many at a time.
        places: How many at a time.
        device: What they run on.
        out: The store.
        seconds: About how long it takes in all; 0 if there is nothing to run.
        confirming: Seeds on which the best settings will run again, after the others.
        going_on: Of a search, the most trials that it may ask for after these: of each rung where
            it stops early.
        warnings: What is to be known before it runs.
    """

    trials: Sequence[Trial]
    epsilons: Sequence[float | None]
    states: Sequence[str | None]
    todo: Sequence[Trial]
    timings: Sequence[tuple[str, Workload]]
    place: str
    places: int
    device: str
    out: Path
    seconds: float
    confirming: Sequence[int]
    going_on: Sequence[Sequence[Trial]]
    warnings: Sequence[str]


def plan(
    trials: Sequence[Trial],
    backend: Backend,
    out: Path,
    retry_failed: bool | None,
    *,
    timed: Sequence[Trial],
    stacked: bool,
    confirming: Sequence[int],
    search: SearchPlan | None = None,
    warnings: Sequence[str],
) -> Plan:
    """The plan of a sweep into the store.

    Args:
        trials: The whole grid.
        backend: Where it would run.
        out: The store, there or not.
        retry_failed: See `plan.missing`.
        timed: The trials whose engines and batch sizes it times.
        stacked: Whether it trains several trials at once as one model.
        confirming: Seeds on which the best settings run again. Their time is not in the estimate:
            which they are is not known yet.
        search: That the trials are of.
        warnings: What is to be known before it runs.
    """
    states = store.states(out)
    todo = missing(trials, states, retry_failed)
    known = store.read_timings(out)
    conditions = {} if known.empty else _conditions(backend)
    timings = untimed(timed, known, conditions) if timed else []
    measured = estimate.measured_rates(out, device=backend.device, stacked=stacked)
    going_on = _going_on(search, lambda trial: estimate.training_seconds(trial, measured))
    later = [trial for rung in going_on for trial in rung if states.get(trial.trial_id) != "ok"]
    seconds = estimate.sweep_seconds(
        [*todo, *later],
        workers=backend.places,
        timing_processes=sum(processes_of(workload) for _, workload in timings),
        measured=measured,
    )
    anew = starting_anew(todo, out)
    return Plan(
        trials=trials,
        epsilons=[_epsilon(trial) for trial in trials],
        states=[states.get(trial.trial_id) for trial in trials],
        todo=todo,
        timings=timings,
        place=str(backend),
        places=backend.places,
        device=backend.device,
        out=out,
        seconds=seconds,
        confirming=confirming,
        going_on=going_on,
        warnings=[*warnings, *([anew] if anew else [])],
    )


def text(planned: Plan) -> str:
    """The plan as lines: one for each trial, as far as they fit a screen, and what they come to."""
    running = {trial.trial_id for trial in planned.todo}
    of_trials = []
    for trial, spent, state in zip(planned.trials, planned.epsilons, planned.states, strict=True):
        epsilon = "-" if spent is None else f"{spent:.4g}"
        done = "" if trial.trial_id in running else f"  ({'done' if state == 'ok' else state})"
        of_trials.append(f"{epsilon:>9}  {trial.epochs:>6}  {trial}{done}")
    if len(of_trials) > MOST_LINES:
        hidden = len(of_trials) - MOST_LINES + 1
        gap = f"{'...':>9}  {'...':>6}  {hidden:,} more, which --json lists"
        of_trials[MOST_LINES - 1 - _LAST : -_LAST] = [gap]
    lines = [
        f"{'epsilon':>9}  {'epochs':>6}  trial ({planned.trials[0].dataset})",
        *of_trials,
    ]
    lines += [
        f"and then at most {strings.counted(len(trials), 'trial')} of up to "
        f"{strings.counted(max(trial.epochs for trial in trials), 'epoch')}"
        for trials in planned.going_on
    ]
    lines.append(
        f"{strings.counted(len(planned.trials), 'trial')}, {len(planned.todo):,} to run into "
        f"{planned.out}, and {strings.counted(len(planned.timings), 'timing')}: about "
        f"{duration(planned.seconds)}, {planned.place}"
    )
    if planned.confirming:
        lines.append(
            "and then the best setting of each answer, and the best non-private one, again on "
            f"{strings.named('seed', planned.confirming)}"
        )
    return "\n".join(lines)


def one_object(planned: Plan) -> str:
    """The plan as a JSON object; an infinite epsilon is null, as that of a non-private trial."""
    running = {trial.trial_id for trial in planned.todo}
    trials = [
        {"trial_id": trial.trial_id, "to_run": trial.trial_id in running, "status": state}
        | asdict(trial)
        | {"epsilon": spent}
        for trial, spent, state in zip(
            planned.trials, planned.epsilons, planned.states, strict=True
        )
    ]
    return strings.json_text(
        schema_version=store.SCHEMA_VERSION,
        out=str(planned.out),
        device=planned.device,
        places=planned.places,
        trials_to_run=len(planned.todo),
        going_on_at_most=[len(trials) for trials in planned.going_on],
        timings_to_run=[
            {"engine": engine, "model": workload.model, "batch_size": workload.batch_size}
            for engine, workload in planned.timings
        ],
        seconds=planned.seconds,
        confirming_seeds=list(planned.confirming),
        warnings=list(planned.warnings),
        trials=trials,
    )


def _going_on(
    search: SearchPlan | None, cost: Callable[[Trial], float]
) -> Sequence[Sequence[Trial]]:
    if search is None:
        return ()
    if search.eta is not None:
        return early_stopping.at_most(search, cost)
    asked = model_search.at_most(search, cost)
    return [asked] if asked else []


def _conditions(backend: Backend) -> dict[str, object]:
    """Conditions of timings; without a GPU's name if only importing PyTorch could tell it."""
    unknown = backend.device != "cpu" and "torch" not in sys.modules
    if unknown and isinstance(backend, LocalBackend):
        workers = backend.workers
        threads = {"device": backend.device, "threads": workers.threads}
        return threads | {"physical_batch_size": workers.physical_batch_size}
    return dict(backend.conditions())


def _epsilon(trial: Trial) -> float | None:
    """What the trial will have spent by its last epoch."""
    if not trial.private:
        return None
    of = (trial.dataset, trial.batch_size, trial.validation_examples or 0)
    spent = accounting.spent_by(
        trial,
        sample_rate=datasets.sample_rate(*of),
        steps=trial.epochs * datasets.steps_per_epoch(*of),
        epochs=trial.epochs,
    )
    return spent.epsilon
