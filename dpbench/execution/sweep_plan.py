"""A sweep before it runs: its trials, its store, and what its report is to answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dpbench import datasets, models, strings
from dpbench.analysis import metrics
from dpbench.errors import BadInput
from dpbench.execution import engine_checks, grid_trials, private_request, search_plan
from dpbench.execution.grid import Grid
from dpbench.execution.search_plan import SearchPlan
from dpbench.privacy import budgets, guarantee
from dpbench.trial import NON_PRIVATE, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What is to run and to be answered.

    Attributes:
        grids: Whose union `trials` is.
        trials: To run, each once; of a search that stops early those of its first rung.
        dataset: Its name.
        data_root: Where the dataset's files are.
        out: The store.
        answer_at: The best setting is reported within each of these epsilons; rising.
        confirming_seeds: Seeds on which the best settings run again; no trial has them.
        tuned_in: Stores in which settings were tried on the same data before. Their trials count
            in the price of choosing.
        choose_by: The metric that settings are chosen by; None for accuracy or, where targets are
            no classes, the loss.
        search: Whose settings are drawn from the grids; None where all of a grid runs.
        private: Instead, a private search, which is drawn when it runs: until then there are no
            trials. None where there is none.
    """

    grids: tuple[Grid, ...]
    trials: tuple[Trial, ...]
    dataset: str
    data_root: Path
    out: Path
    answer_at: tuple[float, ...]
    confirming_seeds: tuple[int, ...]
    tuned_in: tuple[str, ...]
    choose_by: str | None
    search: SearchPlan | None = None
    private: private_request.Request | None = None

    @property
    def warnings(self) -> list[str]:
        """A sentence for each delta that is not below one over the number of training examples."""
        pairs = {
            (trial.delta, datasets.train_examples(trial.dataset, trial.validation_examples or 0))
            for trial in self.trials
            if trial.delta is not None
        }
        found = (guarantee.delta_warning(delta, examples) for delta, examples in sorted(pairs))
        return [warning for warning in found if warning]

    @property
    def timed(self) -> list[Trial]:
        """The trials whose engines are timed: not those that only the baseline is trained by.

        Of a search one at the smallest batch size stands for the settings that will be chosen.
        """
        if self.search is not None:
            private = [trial for trial in self.trials if trial.private]
            return [min(private or self.trials, key=lambda trial: trial.batch_size)]
        named = {engine for each in self.grids for engine in each.engine}
        kept = [
            trial
            for trial in self.trials
            if trial.private or trial.engine == NON_PRIVATE or trial.engine in named
        ]
        return kept or list(self.trials)


def plan_sweep(
    grids: Sequence[Grid],
    *,
    dataset: str,
    data_root: Path,
    out: Path | None = None,
    answer_at: Any = None,
    confirm: Any = 0,
    tuned_in: Any = (),
    choose_by: Any = None,
    search: Any = None,
    private_selection: Any = None,
    total_epsilon: Any = None,
    private_scores: Any = False,
    early_stop: Any = None,
    search_method: Any = None,
) -> SweepPlan:
    """The plan of a sweep over the union of the grids.

    Args:
        grids: At least one.
        dataset: Its name, not `auto`.
        data_root: Where the dataset's files are.
        out: The store; None for results/DATASET-sweep.
        answer_at: One or more epsilons; None for the targets of the grids, else 1, 3 and 8.
        confirm: Seeds on which the best settings run again.
        tuned_in: One or more stores.
        choose_by: A metric, or NAME:lowest of a user's of which lower is better.
        search: Settings to draw from each grid; None to run all of it. Of a private search their
            mean number.
        private_selection: The distribution of the number of runs of a private search; True for the
            default. None where there is none, unless a total epsilon is given.
        total_epsilon: For the whole of a private search.
        private_scores: Whether a private search covers the held-out examples, too.
        early_stop: As of `search_plan.plan`.
        search_method: As of `search_plan.plan`.

    Raises:
        BadInput: A value is of the wrong type or out of range.
    """
    fastest = partial(engine_checks.fastest_right, data_root=data_root)
    found = private = None
    if private_selection or total_epsilon is not None:
        _refuse_with_private(
            confirm=confirm,
            answer_at=answer_at,
            tuned_in=tuned_in,
            choose_by=choose_by,
            early_stop=early_stop,
            search_method=search_method,
        )
        private = private_request.request(
            grids,
            dataset,
            mean=search,
            distribution=private_selection,
            total_epsilon=total_epsilon,
            private_scores=private_scores,
        )
    elif private_scores:
        raise BadInput("Expected --private-selection or --total-epsilon with --private-scores.")
    elif search is not None:
        found = search_plan.plan(
            grids, dataset, search, early_stop=early_stop, method=search_method, fastest=fastest
        )
    for name, value in {"early_stop": early_stop, "search_method": search_method}.items():
        if found is None and value not in (None, False):
            raise BadInput(
                f"Expected a search with {name}={value}: say with --search N how many settings are "
                "tried."
            )
    trials: Sequence[Trial] = ()
    if private is None:
        trials = found.trials if found else grid_trials.trials(grids, dataset, fastest=fastest)
    targets = {epsilon for each in grids for epsilon in each.target_epsilon or ()}
    return SweepPlan(
        grids=tuple(grids),
        trials=tuple(trials),
        dataset=dataset,
        data_root=data_root,
        out=out or Path("results") / f"{strings.file_name(dataset)}-sweep",
        answer_at=budgets.epsilons(
            (sorted(targets) or budgets.ANSWER_AT) if answer_at is None else answer_at
        ),
        confirming_seeds=tuple(_fresh_seeds(trials, confirm)),
        tuned_in=_stores(tuned_in),
        choose_by=_metric(choose_by, trials),
        search=found,
        private=private,
    )


def _refuse_with_private(**given: Any) -> None:
    """Raises BadInput for what a private search takes no part in."""
    whys = {
        "confirm": "a confirmation trains the chosen setting again, which the bound does not cover",
        "answer_at": "it has one epsilon, that of the whole search",
        "tuned_in": "earlier tuning on the same data has an epsilon of its own",
        "choose_by": "its runs are scored by their accuracy on the held-out examples",
        "early_stop": "which runs go on would depend on the others, which no bound covers",
        "search_method": "each setting is drawn at random, whatever the others have come to",
    }
    for name, why in whys.items():
        if given[name]:
            flag = f"--{name.replace('_', '-')}"
            raise BadInput(f"Expected no {flag} with --private-selection: {why}.")


def _fresh_seeds(trials: Sequence[Trial], count: Any) -> Sequence[int]:
    """So many seeds that no trial has: those after the largest.

    Raises:
        BadInput: The count is no number of seeds, or there are not so many below 2**63.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise BadInput(f"Expected confirm={count!r} to be a number of seeds, 0 or more.")
    if not (count and trials):
        return ()
    largest = max(trial.seed for trial in trials)
    if largest + count >= 2**63:
        raise BadInput(f"Expected confirm={count} seeds after seed={largest}, and below 2**63.")
    return range(largest + 1, largest + 1 + count)


def _metric(named: Any, trials: Sequence[Trial]) -> str | None:
    """The metric, which the trials will have.

    Raises:
        BadInput: They will not.
    """
    if named is None:
        return None
    if not isinstance(named, str):
        raise BadInput(f"Expected choose_by={named!r} to be the name of a metric.")
    name = metrics.named(metrics.checked(named))
    for trial in trials:
        own = () if name in metrics.BUILT_IN else models.spec(trial.model).metrics()
        if name not in (*metrics.BUILT_IN, *own):
            raise BadInput(
                f"Expected choose_by={name} to be one of {', '.join((*metrics.BUILT_IN, *own))}; a "
                f"metric of yours stands in the dict metrics of the file of {trial.model}."
            )
        classes = datasets.spec(trial.dataset).classes
        if name == "auroc" and classes != 2:
            raise BadInput(
                f"Expected choose_by=auroc with two classes; {trial.dataset} has {classes}."
            )
    return named


def _stores(folders: Any) -> tuple[str, ...]:
    """The stores, each once.

    Raises:
        BadInput: A value is no folder that a sweep has written.
    """
    several = [folders] if isinstance(folders, str | Path) else folders
    if not isinstance(several, list | tuple) or not all(
        isinstance(each, str | Path) for each in several
    ):
        raise BadInput(f"Expected tuned_in={folders!r} to be a store's folder, or several.")
    for folder in several:
        if not (Path(folder) / "trials").is_dir():
            raise BadInput(f"Expected tuned_in={folder} to be a folder that a sweep has written.")
    return tuple(dict.fromkeys(map(str, several)))
