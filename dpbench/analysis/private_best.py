"""The best run of a private search, and what may be said of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dpbench import datasets
from dpbench.analysis import scores, trial_rows
from dpbench.observations import PASSING_FAILURES
from dpbench.privacy import guarantee, search_guarantee
from dpbench.privacy.run_count import RunCount
from dpbench.store.private_searches import PrivateSearch

_SETTING = (
    *("model", "engine", "noise_multiplier", "max_grad_norm", "clipping", "batch_size"),
    *("optimizer", "learning_rate", "momentum", "epochs"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateBest:
    """What a private search has come to. It holds nothing that must stay secret.

    Attributes:
        epsilon: Of the whole search.
        delta: That goes with it.
        ended: Whether every run has ended; until then there is no best.
        trial_id: Of the best run; None where none has ended well, or none was drawn.
        setting: Of the best run, under the names of `Trial`; empty without one.
        metric: That the score is of.
        score: By which it was chosen, on the held-out examples; with its noise, where it has any.
            None without a best run.
        test_metric: Of the best run on the test set; None without one.
        statement: The guarantee, as a paragraph.
    """

    epsilon: float
    delta: float
    ended: bool
    trial_id: str | None
    setting: dict[str, float | int | str]
    metric: str
    score: float | None
    test_metric: float | None
    statement: str


def best(
    search: PrivateSearch, trials: pd.DataFrame, others: Sequence[PrivateSearch] = ()
) -> PrivateBest:
    """The run with the highest score after its last epoch; of equal ones the first.

    A run that failed has the lowest score: leaving it out would change what was drawn. One that
    crashed or found too little memory is still to be run, unless the search has ended without it.

    Args:
        search: Whose runs are compared.
        trials: Rows of `scores.scored`, of the store.
        others: The store's other searches.
    """
    order = pd.Index(search.trial_ids)
    rows = trials[trials["trial_id"].isin(order)]
    last = trial_rows.final(rows).set_index("trial_id")
    failed = trial_rows.failures(rows)
    if not search.ended:
        failed = failed[~failed["status"].isin(PASSING_FAILURES)]
    over = set(last.index) | set(failed["trial_id"])
    ended = len(search.trial_ids) == len(search.seeds) and over >= set(order)
    of_runs = last["validation_score"].reindex(order).astype(float)
    if search.score_noise is not None:
        noise = pd.Series(search.score_draws, index=order, dtype=float) * search.score_noise
        of_runs = of_runs + noise / search.held_out
    found = of_runs.dropna()
    metric = str(rows["metric"].iloc[0]) if len(rows) else "accuracy"
    statement = _statement(search, others, _dataset(search))
    if not ended or found.empty:
        return PrivateBest(
            epsilon=search.epsilon,
            delta=search.delta,
            ended=ended,
            trial_id=None,
            setting={},
            metric=metric,
            score=None,
            test_metric=None,
            statement=statement,
        )
    chosen = str(found.idxmax())
    (setting,) = last.loc[[chosen], list(_SETTING)].to_dict("records")
    return PrivateBest(
        epsilon=search.epsilon,
        delta=search.delta,
        ended=True,
        trial_id=chosen,
        setting={str(name): value for name, value in setting.items()},
        metric=metric,
        score=scores.value(metric, float(found[chosen])),
        test_metric=scores.value(metric, float(last["test_score"][chosen])),
        statement=statement,
    )


def _dataset(search: PrivateSearch) -> str:
    return str(search.asked["dataset"])


def _statement(search: PrivateSearch, others: Sequence[PrivateSearch], dataset: str) -> str:
    return search_guarantee.statement(
        search_guarantee.SearchGuarantee(
            count=RunCount(distribution=search.distribution, mean=search.mean),  # type: ignore[arg-type]  # as it was drawn
            sampling=search.sampling,
            examples=search.examples,
            schedules=search.schedules,
            noise_multipliers=search.noise_multipliers,
            epsilon=search.epsilon,
            epsilon_of_run=search.epsilon_of_run,
            delta=search.delta,
            scores=_of_scores(search),
            others=_of_others(search, others),
            preprocessing=datasets.preprocessing(dataset),
        )
    )


def _of_scores(search: PrivateSearch) -> str:
    held_out = f"{search.held_out:,} held-out examples"
    test = "The test set is not covered: it must be public, or have a guarantee of its own."
    if search.score_noise is None:
        return (
            f"Models are scored on {held_out}. The guarantee does not cover these, nor the test "
            "set: they must be public, or have a guarantee of their own."
        )
    return (
        f"Models are scored by their number of right answers on {held_out} with Gaussian noise of "
        f"standard deviation {search.score_noise:g}, so that the guarantee covers these examples, "
        f"too. {test}"
    )


def _of_others(search: PrivateSearch, others: Sequence[PrivateSearch]) -> str | None:
    """What all of the store's searches on the dataset spend; None where there is one."""
    same = [each for each in others if _dataset(each) == _dataset(search)]
    if not same:
        return None
    every = [search, *same]
    return (
        f"This is one of {len(every)} searches on these examples that its store holds: together "
        f"they spend at most epsilon = {guarantee.rounded_up(sum(each.epsilon for each in every))} "
        f"at delta = {guarantee.short(sum(each.delta for each in every))}."
    )
