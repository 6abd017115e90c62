"""What choosing among private trainings costs, beside the epsilon of the one that is chosen."""

from dataclasses import dataclass

import pandas as pd

from dpbench import datasets
from dpbench.analysis import trial_rows
from dpbench.errors import BadInput
from dpbench.privacy import selection

_DATA = ["dataset", "batch_size", "validation_examples"]  # which fix the steps of an epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What the best of all settings tried would spend, if their number were random.

    A setting's run is the composition of its trainings with all seeds, since settings are compared
    by their means over seeds, and of those that would have confirmed it, had it been chosen.

    Attributes:
        epsilon: By `selection.epsilon_of_best`, of runs as above.
        epsilon_of_one_seed: The same if each setting had been trained with one seed, and none had
            been confirmed.
        settings: Private ones with noise that have taken a step; the mean of the random number.
        trainings: Of these settings, over all seeds, failed ones included.
        seeds: The most of a setting, those that confirm included.
        tuned: Of the settings, those in the stores of an earlier tuning alone.
        without_noise: Trainings that clip without noise and are not counted: no epsilon covers
            them.
        other_neighbours: Private trainings whose batches were drawn in another way and are not
            counted: their epsilon is for other neighbours.
        uncounted: Trainings that failed and whose steps are not known.
    """

    epsilon: float
    epsilon_of_one_seed: float
    settings: int
    trainings: int
    seeds: int
    tuned: int
    without_noise: int
    other_neighbours: int
    uncounted: int


def price(
    trials: pd.DataFrame,
    tuning: pd.DataFrame,
    confirmations: pd.DataFrame,
    *,
    sampling: str,
    delta: float,
) -> Price | None:
    """The price of a choice; None where there was none, or the steps were not counted.

    Args:
        trials: Every row on the dataset, of whatever status, held-out set and delta.
        tuning: As `trials`, of the stores of an earlier tuning.
        confirmations: Of the trials, those of settings that had been chosen.
        sampling: Of the trials that are chosen among.
        delta: That epsilon is stated at.
    """
    rows = trial_rows.private(pd.concat([trials, tuning]) if len(tuning) else trials)
    rows = rows[~trial_rows.repeats(rows)]  # whoever has the longer one has these weights, too
    rows = rows.assign(validation_examples=rows["validation_examples"].fillna(0))
    started = rows[rows["epoch"] > 0]
    noisy = started[started["noise_multiplier"] > 0]
    of_sampling = noisy[noisy["sampling"] == sampling]
    if not trial_rows.ok(of_sampling)[["sample_rate", "steps"]].notna().all(axis=None):
        return None
    trainings = _trainings(of_sampling)
    known = trainings.dropna(subset=["steps"])
    confirms = known["trial_id"].isin(set(confirmations["trial_id"]))
    by_arm = known[confirms].groupby(trial_rows.ARM, dropna=False, sort=False)
    again = int(by_arm.size().max()) if confirms.any() else 0
    arms = (
        known[~confirms]
        .groupby(trial_rows.ARM, dropna=False, sort=False)
        .agg(
            sample_rate=("sample_rate", "first"),
            steps=("steps", "sum"),
            most_steps=("steps", "max"),
            seeds=("steps", "size"),
        )
        .reset_index()
    )
    if len(arms) < 2:
        return None
    arms["steps"] += again * arms["most_steps"]
    own = known[~confirms & known["trial_id"].isin(set(trials["trial_id"]))]
    return Price(
        epsilon=_epsilon(arms, arms["steps"], delta),
        epsilon_of_one_seed=_epsilon(arms, arms["most_steps"], delta),
        settings=len(arms),
        trainings=len(known),
        seeds=int(arms["seeds"].max()) + again,
        tuned=len(arms) - len(own.drop_duplicates(trial_rows.ARM)),
        without_noise=int(started[started["noise_multiplier"] == 0]["trial_id"].nunique()),
        other_neighbours=int(noisy[noisy["sampling"] != sampling]["trial_id"].nunique()),
        uncounted=len(trainings) - len(known),
    )


def _trainings(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a trial: `sample_rate`, and `steps` in which an example's gradient can be seen.

    A trial that failed in an epoch may have taken all of its steps. With shuffled batches an
    example is in one step of an epoch, in which it certainly is: its sample rate there is 1.
    """
    last = rows.sort_values("epoch", kind="stable").drop_duplicates("trial_id", keep="last")
    last = last.drop(columns=["sample_rate", "steps"])
    if (last["sampling"] == "shuffle").all():
        return last.assign(sample_rate=1.0, steps=last["epoch"])
    seen = trial_rows.ok(rows)
    seen = seen.assign(per_epoch=seen["steps"] / seen["epoch"])
    rates = seen.groupby(_DATA)[["sample_rate", "per_epoch"]].max().reset_index()
    unseen = last[_DATA].drop_duplicates().merge(rates[_DATA], how="left", indicator=True)
    unseen = unseen[unseen["_merge"] == "left_only"]
    known = [_by_spec(*map(data.get, _DATA)) for data in unseen.to_dict("records")]
    last = last.merge(pd.concat([rates, *known]), on=_DATA, how="left")
    return last.assign(steps=last["per_epoch"] * last["epoch"])


def _by_spec(dataset: str, batch_size: int, held_out: float) -> pd.DataFrame:
    """The rate and steps of an epoch of which no training has finished one; none if not known."""
    try:
        rate = datasets.sample_rate(dataset, batch_size, int(held_out))
        steps = datasets.steps_per_epoch(dataset, batch_size, int(held_out))
    except BadInput:
        return pd.DataFrame()
    values = (dataset, batch_size, held_out, rate, float(steps))
    return pd.DataFrame([values], columns=[*_DATA, "sample_rate", "per_epoch"])


def _epsilon(arms: pd.DataFrame, steps: "pd.Series[float]", delta: float) -> float:
    """Of a choice among the arms, each a run of so many steps."""
    values = zip(arms["noise_multiplier"], arms["sample_rate"], steps, strict=True)
    runs = [
        selection.Run(noise_multiplier=float(noise), sample_rate=float(rate), steps=int(taken))
        for noise, rate, taken in values
    ]
    return selection.epsilon_of_best(runs, delta=delta)
