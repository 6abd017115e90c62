"""Frame -> frame: what a store's rows say, with intervals. No files, no drawing."""

import math
from dataclasses import fields

import pandas as pd
from scipy import stats

from dpbench.trial import NON_PRIVATE, NON_PRIVATE_ENGINES, Trial

CONFIDENCE = 0.95
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
    return trials[trials["status"] == "failed"]


def private(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of engines that clip, those without noise included."""
    return trials[~trials["engine"].isin(NON_PRIVATE_ENGINES)]


def non_private(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of the baseline."""
    return trials[trials["engine"] == NON_PRIVATE]


def over_seeds(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and epoch: the mean test accuracy over seeds with its interval.

    Columns: those of the arm, `epoch`, `epsilon`, `accountant`, `seeds` (their number),
    `test_accuracy` (mean) and `low` and `high`, the 95 % Student t interval of the mean; NaN for
    one seed, of which there is none.
    """
    grouped = ok(trials).groupby([*ARM, "epoch"], dropna=False, sort=False)
    frame = grouped.agg(
        epsilon=("epsilon", "max"),
        accountant=("accountant", "first"),
        seeds=("test_accuracy", "size"),
        test_accuracy=("test_accuracy", "mean"),
        deviation=("test_accuracy", "std"),
    ).reset_index()
    half = [
        stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * deviation / math.sqrt(n) if n > 1 else math.nan
        for n, deviation in zip(frame["seeds"], frame["deviation"], strict=True)
    ]
    return frame.assign(low=frame["test_accuracy"] - half, high=frame["test_accuracy"] + half).drop(
        columns="deviation"
    )


def frontier(arms: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats in both epsilon and test accuracy, by rising epsilon."""
    ordered = arms.sort_values(["epsilon", "test_accuracy"], ascending=[True, False])
    best_before = ordered["test_accuracy"].cummax().shift(fill_value=-math.inf)
    return ordered[ordered["test_accuracy"] > best_before]


def overhead(timings: pd.DataFrame) -> pd.DataFrame:
    """One row per engine, batch size and device: its time over the non-private step's.

    Columns: `overhead_ratio`, the median over pairs of seconds_per_step /
    baseline_seconds_per_step; `overhead_ratio_low` and `overhead_ratio_high`, the distribution-free
    interval of that median, of at least 95 % where there are six pairs or more and the whole range
    where there are fewer; `examples_per_second` and `baseline_examples_per_second`, at the median
    times; `pairs`; `alone`, whether every pair was measured so.
    """
    rows = []
    keys = ["engine", "batch_size", "device"]
    for key, group in timings.groupby(keys, sort=False):
        ratios = (group["seconds_per_step"] / group["baseline_seconds_per_step"]).sort_values()
        low, high = _median_interval(list(ratios))
        batch_size = group["batch_size"].iloc[0]
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "overhead_ratio": ratios.median(),
                "overhead_ratio_low": low,
                "overhead_ratio_high": high,
                "examples_per_second": batch_size / group["seconds_per_step"].median(),
                "baseline_examples_per_second": batch_size
                / group["baseline_seconds_per_step"].median(),
                "pairs": len(group),
                "alone": bool(group["alone"].all()),
            }
        )
    return pd.DataFrame(rows)


def _median_interval(ordered: list[float]) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that covers the median with CONFIDENCE.

    The k-th smallest and k-th largest of n draws miss the median with probability
    2 P(Binomial(n, 1/2) < k), whatever the distribution (David and Nagaraja 2003, section 7.1).
    """
    n = len(ordered)
    k = max(1, int(stats.binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)))
    return ordered[k - 1], ordered[n - k]
