"""Frames -> a store's answer: the best setting within each epsilon, and what it costs."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from dpbench import datasets, engines
from dpbench.analysis import (
    arm_means,
    choice,
    frontier,
    scores,
    statistics,
    step_overhead,
    trial_rows,
)
from dpbench.analysis import price as choosing
from dpbench.analysis.answers import (
    Accuracy,
    Answer,
    Baseline,
    Best,
    Setting,
    StepTime,
    Verdict,
)
from dpbench.analysis.price import Price
from dpbench.analysis.statistics import Difference
from dpbench.privacy import guarantee
from dpbench.privacy.budgets import ANSWER_AT
from dpbench.trial import TIMED_STEP

_TRAINING = [name for name in trial_rows.ARM if name != "epochs"]


def baseline(trials: pd.DataFrame, confirmations: pd.DataFrame | None = None) -> Baseline | None:
    """The best non-private arm at its last epoch; None where there is none.

    Args:
        trials: Rows of `comparability.comparable`.
        confirmations: As `answers` has it.
    """
    found = choice.baseline(trials)
    if found is None:
        return None
    arm = found.arm
    _, shown, seeds = choice.confirmed(confirmations, found)
    same = found.arms[found.arms["batch_size"] == arm["batch_size"]]
    epochs = trial_rows.where(
        arm_means.over_seeds(trial_rows.unclipped(trials)),
        {name: arm[name] for name in trial_rows.ARM},
    )
    return Baseline(
        dataset=str(arm["dataset"]),
        model=str(arm["model"]),
        engine=str(arm["engine"]),
        batch_size=int(arm["batch_size"]),
        optimizer=str(arm["optimizer"]),
        learning_rate=float(arm["learning_rate"]),
        epochs=int(arm["epoch"]),
        sampling=str(arm["sampling"]),
        accuracy=_accuracy(shown),
        confirmed_on=seeds,
        arms=len(found.arms),
        chosen_by=frontier.chosen_by(found.arms),
        learning_rates=tuple(sorted({float(rate) for rate in same["learning_rate"]})),
        best_epoch=int(epochs["epoch"].iloc[epochs["test_score"].fillna(-math.inf).argmax()]),
        metric=str(shown["metric"]),
        test_metric=scores.value(str(shown["metric"]), float(shown["test_score"])),
    )


def answers(
    trials: pd.DataFrame,
    timings: pd.DataFrame,
    *,
    at: Sequence[float] = ANSWER_AT,
    confirmations: pd.DataFrame | None = None,
    every: pd.DataFrame | None = None,
    tuning: pd.DataFrame | None = None,
) -> tuple[Answer, ...]:
    """The answer at each epsilon, for each way that batches were drawn.

    Args:
        trials: Rows of `comparability.comparable`, by which settings are chosen.
        timings: Rows of `store.read_timings`, of the same dataset.
        at: Epsilons.
        confirmations: Rows of trials that had no part in the choice: of the settings that are
            chosen, again, on other seeds.
        every: All rows on the dataset, for what choosing costs; None takes `trials`.
        tuning: Rows on the dataset in the stores of an earlier tuning.
    """
    overheads = _overheads(timings)
    none = trials.iloc[:0]
    trained = (
        trials if every is None else every,
        none if tuning is None else tuning,
        none if confirmations is None else confirmations,
    )
    found = []
    for sampling in trial_rows.samplings(trials) or ["poisson"]:
        private = trial_rows.private(trials[trials["sampling"] == sampling])
        price = None
        if len(private):
            delta = float(private["delta"].iloc[0])
            price = choosing.price(*trained, sampling=sampling, delta=delta)
        for epsilon in at:
            best = None
            if chosen := choice.within(trials, epsilon, sampling):
                best = _best(trials, chosen, confirmations, overheads, price)
            found.append(Answer(epsilon_at_most=epsilon, sampling=sampling, best=best))
    return tuple(found)


def _best(
    trials: pd.DataFrame,
    found: choice.Chosen,
    confirmations: pd.DataFrame | None,
    overheads: pd.DataFrame,
    price: Price | None,
) -> Best:
    best, arms = found.arm, found.arms
    rows, shown, seeds = choice.confirmed(confirmations, found)
    trainings = arms.drop_duplicates(_TRAINING)  # with fewer epochs it is the same one
    same = trial_rows.where(arms, {name: best[name] for name in _TRAINING})
    others = arms.drop(index=same.index)
    second = None if others.empty else frontier.best(others)
    ahead = None if second is None else _ahead(found.rows, choice.rows_of(trials, second))
    loss = _loss(choice.baseline(trials), confirmations if seeds else None, rows)
    return Best(
        setting=_setting(best),
        epsilon=float(best["epsilon"]),
        delta=float(best["delta"]),
        accountant=str(best["accountant"]),
        accuracy=_accuracy(shown),
        confirmed_on=seeds,
        accuracy_when_chosen=_accuracy(best),
        loss=loss,
        verdict=None if loss is None else verdict(loss),
        step_times=_step_times(overheads, best),
        arms=len(trainings),
        chosen_by=frontier.chosen_by(arms),
        metric=str(shown["metric"]),
        test_metric=scores.value(str(shown["metric"]), float(shown["test_score"])),
        ahead=ahead,
        next=None if second is None else _setting(second),
        price=price,
        statement=_statement(best, len(arms) if price is None else price.settings),
    )


def _statement(arm: "pd.Series[Any]", settings: int) -> str:
    """The guarantee of the arm's training, chosen among so many settings."""
    setting = _setting(arm)
    return guarantee.statement(
        guarantee.Guarantee(
            sampling=setting.sampling,
            noise_multiplier=setting.noise_multiplier,
            max_grad_norm=setting.max_grad_norm,
            examples=setting.train_examples,
            batch_size=setting.batch_size,
            sample_rate=None if setting.steps is None else float(arm["sample_rate"]),
            steps=setting.steps,
            epochs=setting.epochs,
            epsilon=float(arm["epsilon"]),
            delta=float(arm["delta"]),
            accountant=str(arm["accountant"]),
            choice=guarantee.chosen(settings),
            preprocessing=datasets.preprocessing(str(arm["dataset"])),
        )
    )


def _loss(
    baseline: choice.Chosen | None, confirmations: pd.DataFrame | None, rows: pd.DataFrame
) -> Difference | None:
    """How much less accurate the rows are than the baseline, which is confirmed where they are."""
    if baseline is None:
        return None
    against, _, _ = choice.confirmed(confirmations, baseline)
    lost = _ahead(against, rows)
    return None if math.isnan(lost.mean) else lost  # where targets are no classes


def verdict(loss: Difference) -> Verdict:
    """What a loss against the best non-private arm says, see `Best`."""
    if math.isnan(loss.low):
        return "loses" if loss.mean > 0 and loss.seeds < 2 else "not-told-apart"
    return "loses" if loss.low > 0 else "beats" if loss.high < 0 else "not-told-apart"


def _overheads(timings: pd.DataFrame) -> pd.DataFrame:
    """The overhead of each model, engine, batch size and device."""
    if timings.empty:
        return pd.DataFrame()
    return step_overhead.overhead(timings, ("model", "engine", "batch_size", "device"))


def _step_times(overheads: pd.DataFrame, arm: "pd.Series[Any]") -> tuple[StepTime, ...]:
    """Of the private engines, for the arm's model and batch size, on the first device timed.

    Empty where the arm's own step was not timed.
    """
    if overheads.empty or any(arm[name] != value for name, value in TIMED_STEP.items()):
        return ()
    here = overheads[
        (overheads["model"] == arm["model"])
        & (overheads["batch_size"] == arm["batch_size"])
        & (overheads["device"] == overheads["device"].iloc[0])
    ].set_index("engine")
    engine = str(arm["engine"])
    if engine not in here.index:
        return ()
    order = dict.fromkeys([engine, *engines.private_names()])
    return tuple(
        StepTime(
            engine=name,
            ratio=float(here.loc[name, "overhead_ratio"]),
            low=float(here.loc[name, "overhead_ratio_low"]),
            high=float(here.loc[name, "overhead_ratio_high"]),
        )
        for name in order
        if name in here.index
    )


def _ahead(one: pd.DataFrame, other: pd.DataFrame) -> Difference:
    """How much more accurate `one` is; of the means and without interval if no seed is shared.

    Args:
        one: A row a seed.
        other: As `one`.
    """
    if set(one["seed"]) & set(other["seed"]):
        return statistics.paired_difference(one, other)
    nan = float("nan")
    mean = float(one["test_accuracy"].mean() - other["test_accuracy"].mean())
    return Difference(mean=mean, low=nan, high=nan, seeds=0)


def _setting(arm: "pd.Series[Any]") -> Setting:
    counted = pd.notna(arm["sample_rate"]) and pd.notna(arm["steps"])
    return Setting(
        model=str(arm["model"]),
        engine=str(arm["engine"]),
        sampling=str(arm["sampling"]),
        noise_multiplier=float(arm["noise_multiplier"]),
        max_grad_norm=float(arm["max_grad_norm"]),
        clipping=str(arm["clipping"]),
        batch_size=int(arm["batch_size"]),
        optimizer=str(arm["optimizer"]),
        learning_rate=float(arm["learning_rate"]),
        momentum=float(arm["momentum"]),
        epochs=int(arm["epoch"]),
        train_examples=round(arm["batch_size"] / arm["sample_rate"]) if counted else None,
        steps=int(arm["steps"]) if counted else None,
    )


def _accuracy(arm: "pd.Series[Any]") -> Accuracy:
    return Accuracy(
        mean=float(arm["test_accuracy"]),
        low=float(arm["low"]),
        high=float(arm["high"]),
        seeds=int(arm["seeds"]),
        least=float(arm["least"]),
        most=float(arm["most"]),
    )
