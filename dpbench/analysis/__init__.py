"""Frame -> frame: what a store's rows say, with intervals. No files, no drawing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import pandas as pd
from scipy import special  # scipy.stats takes a third of a second to import

from dpbench import engines
from dpbench.trial import NON_PRIVATE, SAMPLINGS, Trial

CONFIDENCE = 0.95
MOST_WIDTH = 0.5  # of an interval of accuracy: one that holds half of the scale says nothing
ROUNDING = 1e-9  # by so much of itself an epsilon may exceed what it was solved for
ARM = [field.name for field in fields(Trial) if field.name != "seed"]


def ok(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows that hold a measurement."""
    return trials[trials["status"] == "ok"]


def final(trials: pd.DataFrame) -> pd.DataFrame:
    """The last epoch of every trial that finished."""
    rows = ok(trials)
    return rows[rows["epoch"] == rows["epochs"]]


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows that say why a trial failed."""
    return trials[trials["status"] != "ok"]


def private(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of engines that clip, those without noise included."""
    return trials[trials["noise_multiplier"].notna()]


def non_private(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of the baseline."""
    return trials[trials["engine"] == NON_PRIVATE]


def unclipped(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of every engine that trains without privacy: the baseline and its twin."""
    return trials[trials["noise_multiplier"].isna()]


def of_most(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows with the commonest value of the column, and those that have none.

    Of values that are equally common: MNIST, or the largest.
    """
    counts = rows[name].value_counts()
    if counts.empty:
        return rows
    most = max(counts.index[counts == counts.max()], key=lambda value: (value == "mnist", value))
    return rows[rows[name].isna() | (rows[name] == most)]


def alike(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials whose accuracies and epsilons compare: of one dataset, held-out set and delta.

    Each is that of the most trials that have finished an epoch, or of all where none has. Of an arm
    whose trials draw their noise in different ways (`Epoch.noise_derivation`), those that draw it
    in the way of the most seeds.
    """
    return _of_one_derivation(of_one_guarantee(trials))


def _of_one_derivation(rows: pd.DataFrame) -> pd.DataFrame:
    derivation = rows["noise_derivation"].fillna("seed")
    arm = [rows[name] for name in ARM]
    ended = rows["status"] == "ok"  # what failed does not say how it drew
    count = rows["seed"].where(ended).groupby([*arm, derivation], dropna=False).transform("nunique")
    rank = (count + 0.5 * (derivation != "seed")).where(ended)  # of as many, those of today
    return rows[~ended | (rank == rank.groupby(arm, dropna=False).transform("max"))]


def of_one_guarantee(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of one dataset, held-out set and delta: those of the most trials."""
    heads = trials.drop_duplicates(["trial_id", "status"])
    heads = ok(heads) if len(ok(heads)) else heads
    heads = heads.assign(validation_examples=heads["validation_examples"].fillna(0))
    for name in ("dataset", "validation_examples", "delta"):
        heads = of_most(heads, name)
    held_out = trials["validation_examples"].fillna(0)
    return trials[
        trials["dataset"].isin(heads["dataset"])
        & held_out.isin(heads["validation_examples"])
        & (trials["delta"].isna() | trials["delta"].isin(heads["delta"]))
    ]


def comparable(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that answers and figures are of: those that are alike, with two exceptions.

    A setting that several engines have trained is that of the engine with the most seeds. Where
    settings have several seeds, those with one are left out: a lucky seed beats no interval.
    """
    if trials.empty:
        return trials
    rows = alike(trials)
    clips = rows["noise_multiplier"].notna()
    known = {name: index for index, name in enumerate(engines.names())}
    order = rows["engine"].map(known).fillna(len(known))
    rank = order - len(known) * _seeds(rows)
    setting = [rows[name] for name in ARM if name != "engine"]
    rows = rows[~clips | (rank == rank.groupby(setting, dropna=False).transform("min"))]
    seeds = _seeds(rows)
    several = seeds.groupby(clips).transform("max") > 1
    return rows[~several | (seeds > 1)]


def _seeds(rows: pd.DataFrame) -> "pd.Series[int]":
    """Of each row, how many seeds of its arm have finished an epoch."""
    seeds = rows["seed"].where(rows["status"] == "ok")
    return seeds.groupby([rows[name] for name in ARM], dropna=False).transform("nunique")


def over_seeds(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and epoch: the mean test accuracy over seeds with its interval.

    Trials of an arm that draw their noise in different ways are not averaged: each way has a row.

    Columns: those of the arm, `epoch`, `steps`, `sample_rate`, `epsilon`, `epsilon_if_poisson`,
    `accountant`, `seeds` (their number), `validation_accuracy` and `test_accuracy` (means), `low`
    and `high`, the 95 % Student t interval of the latter, and `least` and `most`, its range. The
    interval is NaN for one seed, of which there is none, and where it is wider than MOST_WIDTH.
    """
    rows = ok(trials).assign(derivation=lambda seen: seen["noise_derivation"].fillna("seed"))
    grouped = rows.groupby([*ARM, "derivation", "epoch"], dropna=False, sort=False)
    frame = grouped.agg(
        steps=("steps", "first"),
        sample_rate=("sample_rate", "first"),
        epsilon=("epsilon", "max"),
        epsilon_if_poisson=("epsilon_if_poisson", "max"),
        accountant=("accountant", "first"),
        seeds=("test_accuracy", "size"),
        validation_accuracy=("validation_accuracy", "mean"),
        test_accuracy=("test_accuracy", "mean"),
        deviation=("test_accuracy", "std"),
        least=("test_accuracy", "min"),
        most=("test_accuracy", "max"),
    ).reset_index()
    half = [
        _half_width(deviation, n)
        for n, deviation in zip(frame["seeds"], frame["deviation"], strict=True)
    ]
    return frame.assign(low=frame["test_accuracy"] - half, high=frame["test_accuracy"] + half).drop(
        columns=["deviation", "derivation"]
    )


def frontier(arms: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats in both epsilon and test accuracy, by rising epsilon."""
    ordered = arms.sort_values(["epsilon", "test_accuracy"], ascending=[True, False])
    best_before = ordered["test_accuracy"].cummax().shift(fill_value=-math.inf)
    return ordered[ordered["test_accuracy"] > best_before]


def samplings(trials: pd.DataFrame) -> list[str]:
    """How the private trials drew batches: each has neighbours, and so an epsilon, of its own."""
    there = set(private(trials)["sampling"])
    return [name for name in SAMPLINGS if name in there]


def within(trials: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """Of every private arm, its last epoch that spends at most epsilon: rows of `over_seeds`.

    Args:
        trials: Of one sampling: the epsilons of others do not compare.
        epsilon: Exceeded by rounding at most.
    """
    return last_within(over_seeds(private(trials)), epsilon)


def last_within(arms: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """Of the rows of `over_seeds`, each arm's last that spends at most epsilon."""
    arms = arms[arms["epsilon"] <= epsilon * (1 + ROUNDING)].sort_values("epoch")
    return arms.groupby(ARM, dropna=False, sort=False).tail(1)


def best(arms: pd.DataFrame) -> "pd.Series[Any]":
    """The arm to choose: by validation accuracy where all have it, else by test accuracy.

    Args:
        arms: Rows of `within`; at least one.
    """
    return arms.loc[arms[chosen_by(arms)].idxmax()]


def best_of_each(arms: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The `best` of the arms for each value of the columns, ordered by these.

    Args:
        arms: Rows of `over_seeds`, one epoch of each.
        by: Columns.
    """
    ordered = arms.sort_values(chosen_by(arms), kind="stable")
    return ordered.drop_duplicates(list(by), keep="last").sort_values(list(by))


def chosen_by(arms: pd.DataFrame) -> str:
    """The column by which `best` chooses."""
    return "validation_accuracy" if arms["validation_accuracy"].notna().all() else "test_accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Test accuracy of one arm over that of another, paired by seed.

    Attributes:
        mean: Of the seeds' differences; a fraction.
        low: Lower end of its 95 % Student t interval; NaN for one seed, and where that is wider
            than MOST_WIDTH.
        high: Upper end.
        seeds: That both arms have.
    """

    mean: float
    low: float
    high: float
    seeds: int


def paired_difference(one: pd.DataFrame, other: pd.DataFrame) -> Difference:
    """How much more accurate `one` is than `other`, seed against the same seed.

    Equal seeds share initial weights and batches, so that what they share cancels.

    Args:
        one: One epoch of one arm's trials, a row a seed.
        other: As `one`, with at least one of its seeds.
    """
    accuracies = one.set_index("seed")["test_accuracy"], other.set_index("seed")["test_accuracy"]
    differences = (accuracies[0] - accuracies[1]).dropna()
    return _difference(differences.mean(), differences.std(), len(differences))


def _difference(mean: float, deviation: float, seeds: int) -> Difference:
    half = _half_width(deviation, seeds)
    return Difference(mean=mean, low=mean - half, high=mean + half, seeds=seeds)


def loss_split(trials: pd.DataFrame) -> pd.DataFrame:
    """What accuracy each private arm with noise loses, and to what: one row an arm's last epoch.

    Columns: those of the arm; `total`, its accuracy below that of the non-private arm of the same
    data, batch size, sampling and epochs (of the best learning rate, where there are several, by
    `chosen_by`);
    `clipping`, the part that the same arm without noise loses, too; `noise`, the rest. Each is a
    `Difference`, paired over the seeds that all three have. Arms without both controls are left
    out.
    """
    finals = final(trials)[[*ARM, "seed", "test_accuracy", "validation_accuracy"]]
    clips = private(finals)
    noisy, clip_only = clips[clips["noise_multiplier"] > 0], clips[clips["noise_multiplier"] == 0]
    baseline = unclipped(finals)
    shared = ["dataset", "model", "sampling", "batch_size", "optimizer", "momentum", "epochs"]
    shared.append("validation_examples")
    rates = [*shared, "learning_rate", "engine"]
    columns = ["test_accuracy", "validation_accuracy"]
    means = baseline.groupby(rates, dropna=False)[columns].mean().reset_index()
    baseline = baseline.merge(best_of_each(means, shared)[rates])
    same_clip = [name for name in ARM if name != "noise_multiplier"]
    rows = noisy.merge(
        clip_only[[*same_clip, "seed", "test_accuracy"]],
        on=[*same_clip, "seed"],
        suffixes=("", "_clip_only"),
    ).merge(
        baseline[[*shared, "seed", "test_accuracy"]],
        on=[*shared, "seed"],
        suffixes=("", "_non_private"),
    )
    parts = {
        "total": rows["test_accuracy_non_private"] - rows["test_accuracy"],
        "clipping": rows["test_accuracy_non_private"] - rows["test_accuracy_clip_only"],
        "noise": rows["test_accuracy_clip_only"] - rows["test_accuracy"],
    }
    by_arm = rows.assign(**parts).groupby(ARM, dropna=False, sort=False)
    split = by_arm.size().reset_index()[ARM]
    for part in parts:
        seen = by_arm[part].agg(["mean", "std", "size"])
        split[part] = [_difference(*each) for each in seen.itertuples(index=False)]
    return split


def short(value: float) -> str:
    """The number in three digits, as it is said and drawn: 1e-5 and not 1e-05."""
    return f"{value:.3g}".replace("e-0", "e-")


def where(rows: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """The rows that have these values; a null equals a null."""
    for name, value in values.items():
        rows = rows[rows[name].isna() if pd.isna(value) else rows[name] == value]
    return rows


def _half_width(deviation: float, seeds: int) -> float:
    """Of the Student t interval of a mean accuracy; NaN for one seed.

    NaN, too, where the interval is wider than MOST_WIDTH: two seeds that differ by 4 points or more
    say nothing beyond their range.
    """
    if seeds < 2:
        return math.nan
    half = _t_quantile(int(seeds) - 1) * float(deviation) / math.sqrt(seeds)
    return half if 2 * half <= MOST_WIDTH else math.nan


@cache
def _t_quantile(degrees: int) -> float:
    return float(special.stdtrit(degrees, (1 + CONFIDENCE) / 2))


def overhead(
    timings: pd.DataFrame, keys: Sequence[str] = ("engine", "batch_size", "device")
) -> pd.DataFrame:
    """One row per value of the keys: the time of a step over the non-private step's.

    Columns: `overhead_ratio`, the median of `step_ratios`; `overhead_ratio_low` and
    `overhead_ratio_high`, the distribution-free interval of that median, of at least 95 % where
    there are six ratios or more and the whole range where there are fewer; `spread`, the distance
    between the quartiles of the pairs' ratios over their median; `examples_per_second` and
    `baseline_examples_per_second`, at the median times; `peak_memory_bytes` of the engine, NaN
    where it is not known; `processes`, how many it was timed in; `pairs`, of all of them together;
    `pairs_alone`, how many of these were measured while nothing else ran; `alone`, whether all
    were.
    """
    rows = []
    for key, group in timings.groupby(list(keys), sort=False, dropna=False):
        ratios = step_ratios(group)
        low, high = _median_interval(sorted(ratios))
        pairs = group["seconds_per_step"] / group["baseline_seconds_per_step"]
        batch_size = group["batch_size"].iloc[0]
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "overhead_ratio": ratios.median(),
                "overhead_ratio_low": low,
                "overhead_ratio_high": high,
                "spread": (pairs.quantile(0.75) - pairs.quantile(0.25)) / pairs.median(),
                "examples_per_second": batch_size / group["seconds_per_step"].median(),
                "baseline_examples_per_second": batch_size
                / group["baseline_seconds_per_step"].median(),
                "peak_memory_bytes": group["peak_memory_bytes"].astype(float).max(),
                "processes": group["process"].nunique(dropna=False),
                "pairs": len(group),
                "pairs_alone": int(group["alone"].sum()),
                "alone": bool(group["alone"].all()),
            }
        )
    return pd.DataFrame(rows)


def step_ratios(timing: pd.DataFrame) -> "pd.Series[float]":
    """The ratios of which an overhead is the median, for rows of one engine and batch size.

    That is the median ratio of each process, since pairs of one process are more alike than those
    of two. Where there is one process alone, as in rows of older versions, the ratio of each pair.
    """
    ratios = timing["seconds_per_step"] / timing["baseline_seconds_per_step"]
    if timing["process"].nunique(dropna=False) == 1:
        return ratios
    return ratios.groupby(timing["process"], dropna=False).median()


def timed_alike(timings: pd.DataFrame) -> pd.DataFrame:
    """The timings that compare: of each dataset and device those measured in one way.

    That is on one model of processor or GPU, with one number of threads and one physical batch
    size: those of the most engines and batch sizes, or of these the latest. And of each engine and
    batch size those under the latest versions.
    """
    if timings.empty:
        return timings
    on = ["dataset", "device"]
    way = [*on, "device_name", "threads", "physical_batch_size"]
    what = ["engine", "batch_size"]
    each = timings.groupby([*way, *what], dropna=False, as_index=False)["started_at"].max()
    ways = each.groupby(way, dropna=False, as_index=False).agg(
        count=("started_at", "size"), latest=("started_at", "max")
    )
    kept = ways.sort_values(["count", "latest"]).drop_duplicates(on, keep="last")[way]
    rows = timings.reset_index().merge(kept, on=way).set_index("index").sort_index()
    latest = rows.groupby([*way, *what], dropna=False)["started_at"].transform("max")
    return timings.loc[rows.index[rows["started_at"].eq(latest) | latest.isna()]]


def _median_interval(ordered: list[float]) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that covers the median with CONFIDENCE.

    The k-th smallest and k-th largest of n draws miss the median with probability
    2 P(Binomial(n, 1/2) < k), whatever the distribution (David and Nagaraja 2003, section 7.1).
    """
    n = len(ordered)
    at_most = special.bdtr(range(n), n, 0.5)  # P(Binomial(n, 1/2) <= 0, 1, ...)
    k = max(1, int((at_most < (1 - CONFIDENCE) / 2).sum()))
    return ordered[k - 1], ordered[n - k]
