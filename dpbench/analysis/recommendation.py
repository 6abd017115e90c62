"""Frames -> a store's answer: the best setting within each epsilon, and what it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from dpbench import analysis, datasets
from dpbench.analysis import Difference, choice
from dpbench.analysis import price as choosing
from dpbench.analysis.price import Price
from dpbench.privacy import guarantee
from dpbench.question import ANSWER_AT
from dpbench.trial import ENGINES, NON_PRIVATE_ENGINES

Verdict = Literal["loses", "not-told-apart", "beats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A private arm up to one of its epochs, under the names of `Trial`.

    Its epsilon holds for `steps` batches of that expected size out of `train_examples` alone; both
    are None where they were not counted.
    """

    engine: str
    sampling: str
    noise_multiplier: float
    max_grad_norm: float
    batch_size: int
    learning_rate: float
    momentum: float
    epochs: int
    train_examples: int | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Test accuracy over seeds, a fraction, with its 95 % t interval and its range.

    `low` and `high` are NaN for one seed, and where the interval is wider than half of the scale.
    """

    mean: float
    low: float
    high: float
    seeds: int
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """An engine's time of a step over the non-private step's, with the median's interval."""

    engine: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The setting to choose within an epsilon.

    Attributes:
        setting: What to run.
        epsilon: That it spends, in one run.
        delta: That goes with it.
        accountant: Which gave that epsilon.
        accuracy: That it reaches, over the seeds of `confirmed_on` or, where there are none, over
            those by which it was chosen.
        confirmed_on: Seeds that had no part in the choice.
        accuracy_when_chosen: Over the seeds by which it was chosen: too good, as it was picked.
        loss: Accuracy of the best non-private arm over it, paired by seed; None without one.
        verdict: What that loss says: `loses`; `not-told-apart` where its interval holds 0, or
            there is none and the private arm is ahead; `beats` where the private arm is ahead for
            certain, which says that the baseline is weak. None without a loss.
        step_times: Of its own engine, first, and of the others; empty where none were measured.
        arms: Among how many it was chosen.
        chosen_by: `validation_accuracy`, or `test_accuracy` where not all have that.
        ahead: Its accuracy over the next's on the seeds by which it was chosen, paired by seed;
            None where it has no rival.
        next: The setting that is next.
        price: What choosing costs; None where nothing was chosen, or steps were not counted.
        statement: The guarantee of one training, as a paragraph that can be put in a paper.
    """

    setting: Setting
    epsilon: float
    delta: float
    accountant: str
    accuracy: Accuracy
    confirmed_on: tuple[int, ...]
    accuracy_when_chosen: Accuracy
    loss: Difference | None
    verdict: Verdict | None
    step_times: tuple[StepTime, ...]
    arms: int
    chosen_by: str
    ahead: Difference | None
    next: Setting | None
    price: Price | None
    statement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer for one epsilon and one way to draw batches, which fixes the neighbours.

    `best` is None where no arm stays within the epsilon.
    """

    epsilon_at_most: float
    sampling: str
    best: Best | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The best non-private arm, what a loss is counted from; chosen and confirmed as in `Best`.

    Attributes:
        learning_rates: That were tried at its batch size, rising.
        best_epoch: At which its mean test accuracy was highest.
    """

    dataset: str
    engine: str
    batch_size: int
    learning_rate: float
    epochs: int
    sampling: str
    accuracy: Accuracy
    confirmed_on: tuple[int, ...]
    arms: int
    chosen_by: str
    learning_rates: tuple[float, ...]
    best_epoch: int


def baseline(trials: pd.DataFrame, confirmations: pd.DataFrame | None = None) -> Baseline | None:
    """The best non-private arm at its last epoch; None where there is none.

    Args:
        trials: Rows of `analysis.comparable`.
        confirmations: As `answers` has it.
    """
    found = choice.baseline(trials)
    if found is None:
        return None
    arm = found.arm
    _, shown, seeds = choice.confirmed(confirmations, found)
    same = found.arms[found.arms["batch_size"] == arm["batch_size"]]
    epochs = analysis.where(
        analysis.over_seeds(analysis.unclipped(trials)), {name: arm[name] for name in analysis.ARM}
    )
    return Baseline(
        dataset=str(arm["dataset"]),
        engine=str(arm["engine"]),
        batch_size=int(arm["batch_size"]),
        learning_rate=float(arm["learning_rate"]),
        epochs=int(arm["epoch"]),
        sampling=str(arm["sampling"]),
        accuracy=_accuracy(shown),
        confirmed_on=seeds,
        arms=len(found.arms),
        chosen_by=analysis.chosen_by(found.arms),
        learning_rates=tuple(sorted({float(rate) for rate in same["learning_rate"]})),
        best_epoch=int(epochs.loc[epochs["test_accuracy"].idxmax(), "epoch"]),
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
        trials: Rows of `analysis.comparable`, by which settings are chosen.
        timings: Rows of `store.read_timings`, of the same dataset.
        at: Epsilons.
        confirmations: Rows of trials that had no part in the choice: of the settings that are
            chosen, again, on other seeds.
        every: All rows on the dataset, for what choosing costs; None takes `trials`.
        tuning: Rows on the dataset in the stores of an earlier tuning.
    """
    overheads = analysis.overhead(timings) if len(timings) else pd.DataFrame()
    none = trials.iloc[:0]
    trained = (
        trials if every is None else every,
        none if tuning is None else tuning,
        none if confirmations is None else confirmations,
    )
    found = []
    for sampling in analysis.samplings(trials) or ["poisson"]:
        private = analysis.private(trials[trials["sampling"] == sampling])
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
    others = arms.drop(index=best.name)
    second = None if others.empty else analysis.best(others)
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
        step_times=_step_times(overheads, str(best["engine"]), int(best["batch_size"])),
        arms=len(arms),
        chosen_by=analysis.chosen_by(arms),
        ahead=None if second is None else _ahead(found.rows, choice.rows_of(trials, second)),
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
            preprocessing=_preprocessing(str(arm["dataset"])),
        )
    )


def _preprocessing(dataset: str) -> str | None:
    """A sentence on the constants that normalise the dataset's pixels; None if it is unknown."""
    return datasets.spec(dataset).preprocessing if dataset in datasets.names() else None


def _loss(
    baseline: choice.Chosen | None, confirmations: pd.DataFrame | None, rows: pd.DataFrame
) -> Difference | None:
    """How much less accurate the rows are than the baseline, which is confirmed where they are."""
    if baseline is None:
        return None
    against, _, _ = choice.confirmed(confirmations, baseline)
    return _ahead(against, rows)


def verdict(loss: Difference) -> Verdict:
    """What a loss against the best non-private arm says, see `Best`."""
    if math.isnan(loss.low):
        return "loses" if loss.mean > 0 and loss.seeds < 2 else "not-told-apart"
    return "loses" if loss.low > 0 else "beats" if loss.high < 0 else "not-told-apart"


def _step_times(overheads: pd.DataFrame, engine: str, batch_size: int) -> tuple[StepTime, ...]:
    """Of the engines that train privately, at this batch size, on the first device timed."""
    if overheads.empty:
        return ()
    here = overheads[overheads["batch_size"] == batch_size]
    here = here[here["device"] == overheads["device"].iloc[0]].set_index("engine")
    order: Sequence[str] = [engine, *(name for name in ENGINES if name != engine)]
    return tuple(
        StepTime(
            engine=name,
            ratio=float(here.loc[name, "overhead_ratio"]),
            low=float(here.loc[name, "overhead_ratio_low"]),
            high=float(here.loc[name, "overhead_ratio_high"]),
        )
        for name in order
        if name in here.index and name not in NON_PRIVATE_ENGINES
    )


def _ahead(one: pd.DataFrame, other: pd.DataFrame) -> Difference:
    """How much more accurate `one` is; of the means and without interval if no seed is shared.

    Args:
        one: A row a seed.
        other: As `one`.
    """
    if set(one["seed"]) & set(other["seed"]):
        return analysis.paired_difference(one, other)
    nan = float("nan")
    mean = float(one["test_accuracy"].mean() - other["test_accuracy"].mean())
    return Difference(mean=mean, low=nan, high=nan, seeds=0)


def _setting(arm: "pd.Series[Any]") -> Setting:
    counted = pd.notna(arm["sample_rate"]) and pd.notna(arm["steps"])
    return Setting(
        engine=str(arm["engine"]),
        sampling=str(arm["sampling"]),
        noise_multiplier=float(arm["noise_multiplier"]),
        max_grad_norm=float(arm["max_grad_norm"]),
        batch_size=int(arm["batch_size"]),
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
