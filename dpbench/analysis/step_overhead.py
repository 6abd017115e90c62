"""The time of an engine's step over the non-private step's."""

from collections.abc import Sequence

import pandas as pd

from dpbench.analysis.statistics import median_interval


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
        low, high = median_interval(sorted(ratios))
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
    """The timings that compare: of each dataset, model and device those measured in one way.

    That is on one type of processor or GPU, with one number of threads and one physical batch
    size: those of the most engines and batch sizes, or of these the latest. And of each engine and
    batch size those under the latest versions.
    """
    if timings.empty:
        return timings
    on = ["dataset", "model", "device"]
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
