"""Two stores' frames -> what differs, and which differences are regressions. No files, no drawing.

RULES says what a regression is.
"""

import math
from typing import Any

import pandas as pd
from scipy import stats

from dpbench import analysis
from dpbench.analysis import ARM, CONFIDENCE

RULES = """A regression is, each rule erring on the side of silence:
- a trial that was ok and is failed now;
- accuracy, over seeds: the 95 % Student t interval of the seed-paired differences lies wholly below
  -tolerance. Many arms are compared at once, so the one-sided tests at 2.5 % that this amounts to
  are corrected by Holm's method (Holm 1979), which holds whatever the dependence between them. Each
  arm of two seeds or more is tested, and each engine over all of its trials where there are five
  or more, so that a sweep of one seed is not blind;
- accuracy, in an arm of one seed: a fall of more than ten points, since one has no interval;
- overhead, on the same hardware: the whole interval of the ratio lies above headroom times the
  whole interval before;
- epsilon of the same settings: a rise of more than a millionth."""

TOLERANCE = 0.002  # of accuracy; about the error that 10,000 test images leave at 97 %
COLLAPSE = 0.1  # a fall of accuracy that no spread over seeds explains
POOL_AT_LEAST = 5
HEADROOM = 1.5  # ratios move by a quarter on a shared machine
EPSILON_TOLERANCE = 1e-6  # relative

TIMED = [
    "dataset",
    "engine",
    "batch_size",
    "device",
    "device_name",
    "threads",
    "physical_batch_size",
]
WHERE = [
    "dataset",
    "dpbench_version",
    "dpbench_commit",
    "python_version",
    "torch_version",
    "opacus_version",
    "device_name",
    "threads",
]
_TRIAL = [*ARM, "seed"]


def versions(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per column of WHERE: its values `before` and `after`, and whether they are `same`.

    Args:
        before: Rows of trials and timings together.
        after: As before.
    """
    rows = []
    for column in WHERE:
        sides = [
            ", ".join(sorted(map(str, side[column].dropna().unique()))) for side in (before, after)
        ]
        rows.append({"what": column, "before": sides[0], "after": sides[1]})
    frame = pd.DataFrame(rows)
    return frame.assign(same=frame["before"] == frame["after"])


def trials(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per trial of either side: `status_before` and `status_after`, `reason`, `regression`.

    A status is `ok` where the last epoch is there, `failed`, or `missing`.
    """
    frame = _status(before).merge(
        _status(after), on=_TRIAL, how="outer", suffixes=("_before", "_after")
    )
    statuses = ["status_before", "status_after"]
    frame[statuses] = frame[statuses].fillna("missing")
    return (
        frame.drop(columns="reason_before")
        .rename(columns={"reason_after": "reason"})
        .assign(regression=(frame["status_before"] == "ok") & (frame["status_after"] == "failed"))
    )


def _status(frame: pd.DataFrame) -> pd.DataFrame:
    done, bad = analysis.final(frame), analysis.failures(frame)
    every = pd.concat([done, bad]) if len(bad) else done
    return every.drop_duplicates(_TRIAL)[[*_TRIAL, "status", "reason"]]


def accuracy(
    before: pd.DataFrame, after: pd.DataFrame, *, tolerance: float = TOLERANCE
) -> pd.DataFrame:
    """One row per arm that has finished trials of the same seeds on both sides, and per engine.

    Columns: those of the arm (null but for the engine in an engine's row), `arms` and `pairs`, how
    many of each the row is about; the mean `test_accuracy_before` and `test_accuracy_after`; their
    paired `difference` with its t interval `low` to `high`, NaN for one pair; `p_value` of the
    one-sided t test that the mean difference is -tolerance or more, NaN for one pair;
    `regression`.
    """
    columns = [*_TRIAL, "test_accuracy"]
    paired = analysis.final(before)[columns].merge(
        analysis.final(after)[columns], on=_TRIAL, suffixes=("_before", "_after")
    )
    rows: list[dict[str, Any]] = [
        dict(zip(ARM, key, strict=True)) | {"arms": 1} | _tested(group, tolerance)
        for key, group in paired.groupby(ARM, dropna=False, sort=False)
    ]
    for engine, group in paired.groupby("engine", sort=False):
        arms = sum(row["engine"] == engine for row in rows)
        if arms > 1 and len(group) >= POOL_AT_LEAST:
            rows.append({"engine": engine, "arms": arms} | _tested(group, tolerance))
    if not rows:
        return pd.DataFrame(columns=[*ARM, "arms", "pairs", "difference", "regression"])
    frame = pd.DataFrame(rows)
    collapsed = (frame["pairs"] == 1) & (frame["difference"] < -COLLAPSE)
    return frame.assign(regression=_holm(frame["p_value"]) | collapsed)


def _tested(group: pd.DataFrame, tolerance: float) -> dict[str, float]:
    differences = group["test_accuracy_after"] - group["test_accuracy_before"]
    n, mean = len(differences), float(differences.mean())
    low = high = p_value = math.nan
    if n > 1:
        error = float(differences.std()) / math.sqrt(n)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
        low, high = mean - half, mean + half
        if error > 0:
            p_value = float(stats.t.cdf((mean + tolerance) / error, n - 1))
        else:  # all differ by the same, which two runs of one build do by 0
            p_value = 0.0 if mean < -tolerance else 1.0
    return {
        "pairs": n,
        "test_accuracy_before": group["test_accuracy_before"].mean(),
        "test_accuracy_after": group["test_accuracy_after"].mean(),
        "difference": mean,
        "low": low,
        "high": high,
        "p_value": p_value,
    }


def _holm(p_values: "pd.Series[float]") -> "pd.Series[bool]":
    """Which hypotheses fall, when a true one may fall with probability (1 - CONFIDENCE) / 2."""
    ordered = p_values.dropna().sort_values()
    fallen = pd.Series(data=False, index=p_values.index)
    for position, (index, p_value) in enumerate(ordered.items()):
        if p_value > (1 - CONFIDENCE) / 2 / (len(ordered) - position):
            break
        fallen[index] = True
    return fallen


def overhead(
    before: pd.DataFrame, after: pd.DataFrame, *, headroom: float = HEADROOM
) -> pd.DataFrame:
    """One row per engine and batch size timed on both sides in the same way on the same hardware.

    Columns: those of TIMED; what `analysis.overhead` gives, `_before` and `_after`; `growth`, the
    ratio after over the ratio before; `regression`.
    """
    if before.empty or after.empty:
        return pd.DataFrame(columns=[*TIMED, "growth", "regression"])
    frame = analysis.overhead(before, TIMED).merge(
        analysis.overhead(after, TIMED), on=TIMED, suffixes=("_before", "_after")
    )
    return frame.assign(
        growth=frame["overhead_ratio_after"] / frame["overhead_ratio_before"],
        regression=frame["overhead_ratio_low_after"]
        > headroom * frame["overhead_ratio_high_before"],
    )


def epsilon(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per private arm that finished on both sides, of whatever seeds.

    Columns: those of the arm; `epsilon_before` and `epsilon_after`, the largest over seeds, and
    the accountants that gave them; `rise`, relative; `regression`. An epsilon that is no longer
    there is a regression, too.
    """
    sides = []
    for side in (before, after):
        last = analysis.private(analysis.final(side)).groupby(ARM, dropna=False, sort=False)
        sides.append(last.agg(epsilon=("epsilon", "max"), accountant=("accountant", "first")))
    frame = (
        sides[0].reset_index().merge(sides[1].reset_index(), on=ARM, suffixes=("_before", "_after"))
    )
    old, new = frame["epsilon_before"], frame["epsilon_after"]
    rise = (new / old - 1).where(new != old, 0.0)  # infinite on both sides is the same
    lost = old.notna() & new.isna()
    return frame.assign(rise=rise, regression=(rise > EPSILON_TOLERANCE) | lost)
