"""Frames -> a store's answer: the best setting within each epsilon, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dpbench import accounting, analysis
from dpbench.analysis import BEST_AT, Difference
from dpbench.trial import ENGINES, NON_PRIVATE_ENGINES


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A private arm up to one of its epochs, under the names of `Trial`."""

    engine: str
    sampling: str
    noise_multiplier: float
    max_grad_norm: float
    batch_size: int
    learning_rate: float
    momentum: float
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Test accuracy over seeds, a fraction, with its 95 % t interval; NaN for one seed."""

    mean: float
    low: float
    high: float
    seeds: int


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
        accuracy: That it reaches.
        loss: Accuracy of the best non-private arm over it, paired by seed; None without one.
        step_times: Of its own engine, first, and of the others; empty where none were measured.
        arms: Among how many it was chosen.
        chosen_by: `validation_accuracy`, or `test_accuracy` where not all have that.
        ahead: Its accuracy over the next's, paired by seed; None where it has no rival.
        next: The setting that is next.
        epsilon_of_choice: Of the best, by its mean over the seeds, of as many settings drawn at
            random, if their number were random (`accounting.epsilon_of_best`); None where it has
            no rival, or steps were not counted.
    """

    setting: Setting
    epsilon: float
    delta: float
    accountant: str
    accuracy: Accuracy
    loss: Difference | None
    step_times: tuple[StepTime, ...]
    arms: int
    chosen_by: str
    ahead: Difference | None
    next: Setting | None
    epsilon_of_choice: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer for one epsilon; `best` is None where no arm stays within it."""

    epsilon_at_most: float
    best: Best | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The best non-private arm, what a loss is counted from; chosen as in `Best`."""

    dataset: str
    batch_size: int
    learning_rate: float
    epochs: int
    sampling: str
    accuracy: Accuracy
    arms: int
    chosen_by: str


def baseline(trials: pd.DataFrame) -> Baseline | None:
    """The best non-private arm at its last epoch; None where there is none.

    Args:
        trials: Rows of `analysis.comparable`.
    """
    arms = _baseline_arms(trials)
    if arms.empty:
        return None
    arm = analysis.best(arms)
    return Baseline(
        dataset=str(arm["dataset"]),
        batch_size=int(arm["batch_size"]),
        learning_rate=float(arm["learning_rate"]),
        epochs=int(arm["epoch"]),
        sampling=str(arm["sampling"]),
        accuracy=_accuracy(arm),
        arms=len(arms),
        chosen_by=analysis.chosen_by(arms),
    )


def answers(trials: pd.DataFrame, timings: pd.DataFrame) -> tuple[Answer, ...]:
    """The answer at each of BEST_AT.

    Args:
        trials: Rows of `analysis.comparable`.
        timings: Rows of `store.read_timings`, of the same dataset.
    """
    overheads = analysis.overhead(timings) if len(timings) else pd.DataFrame()
    return tuple(
        Answer(epsilon_at_most=epsilon, best=_best(trials, overheads, epsilon))
        for epsilon in BEST_AT
    )


def _best(trials: pd.DataFrame, overheads: pd.DataFrame, epsilon: float) -> Best | None:
    arms = analysis.within(trials, epsilon)
    if arms.empty:
        return None
    best = analysis.best(arms)
    baselines = _baseline_arms(trials)
    others = arms.drop(index=best.name)
    second = None if others.empty else analysis.best(others)
    return Best(
        setting=_setting(best),
        epsilon=float(best["epsilon"]),
        delta=float(best["delta"]),
        accountant=str(best["accountant"]),
        accuracy=_accuracy(best),
        loss=None if baselines.empty else _ahead(trials, analysis.best(baselines), best),
        step_times=_step_times(overheads, str(best["engine"]), int(best["batch_size"])),
        arms=len(arms),
        chosen_by=analysis.chosen_by(arms),
        ahead=None if second is None else _ahead(trials, best, second),
        next=None if second is None else _setting(second),
        epsilon_of_choice=_epsilon_of_choice(arms),
    )


def _baseline_arms(trials: pd.DataFrame) -> pd.DataFrame:
    return analysis.over_seeds(analysis.unclipped(analysis.final(trials)))


def _epsilon_of_choice(arms: pd.DataFrame) -> float | None:
    counted = arms[["sample_rate", "steps"]].notna().all(axis=None)
    if len(arms) < 2 or not counted:
        return None
    worst = _least_private(arms)
    runs = [*worst, *worst[:1] * (len(arms) - len(worst))]  # of the others only the number counts
    return accounting.epsilon_of_best(runs, delta=float(arms["delta"].iloc[0]))


def _least_private(arms: pd.DataFrame) -> list[accounting.Run]:
    """The runs of which no other has at most as much noise in at least as many steps."""
    runs = []
    arms = arms.assign(all_steps=arms["steps"] * arms["seeds"])
    for _, same in arms.groupby(["sampling", "sample_rate"], sort=True):
        steps = 0
        ordered = same.sort_values(["noise_multiplier", "all_steps"], ascending=[True, False])
        for _, arm in ordered.iterrows():
            if arm["all_steps"] > steps:
                steps = int(arm["all_steps"])
                runs.append(_run(arm))
    return runs


def _run(arm: "pd.Series[Any]") -> accounting.Run:
    """The arm's mechanism: all of its seeds, for it is chosen by their mean.

    With shuffled batches, it is each example's one step an epoch.
    """
    poisson = arm["sampling"] == "poisson"
    return accounting.Run(
        noise_multiplier=arm["noise_multiplier"],
        sample_rate=arm["sample_rate"] if poisson else 1.0,
        steps=int(arm["seeds"]) * int(arm["steps"] if poisson else arm["epoch"]),
    )


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


def _ahead(trials: pd.DataFrame, one: "pd.Series[Any]", other: "pd.Series[Any]") -> Difference:
    """How much more accurate `one` is; of the means and without interval if no seed is shared."""
    rows = _rows(trials, one), _rows(trials, other)
    if set(rows[0]["seed"]) & set(rows[1]["seed"]):
        return analysis.paired_difference(*rows)
    nan = float("nan")
    mean = float(one["test_accuracy"] - other["test_accuracy"])
    return Difference(mean=mean, low=nan, high=nan, seeds=0)


def _rows(trials: pd.DataFrame, arm: "pd.Series[Any]") -> pd.DataFrame:
    """The arm's rows at its epoch, one a seed."""
    return analysis.where(
        analysis.ok(trials), {name: arm[name] for name in (*analysis.ARM, "epoch")}
    )


def _setting(arm: "pd.Series[Any]") -> Setting:
    return Setting(
        engine=str(arm["engine"]),
        sampling=str(arm["sampling"]),
        noise_multiplier=float(arm["noise_multiplier"]),
        max_grad_norm=float(arm["max_grad_norm"]),
        batch_size=int(arm["batch_size"]),
        learning_rate=float(arm["learning_rate"]),
        momentum=float(arm["momentum"]),
        epochs=int(arm["epoch"]),
    )


def _accuracy(arm: "pd.Series[Any]") -> Accuracy:
    return Accuracy(
        mean=float(arm["test_accuracy"]),
        low=float(arm["low"]),
        high=float(arm["high"]),
        seeds=int(arm["seeds"]),
    )
