"""Two stores' frames -> what differs, and which differences are regressions. No files, no drawing.

RULES says what a regression is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from dpbench import datasets
from dpbench.analysis import step_overhead, trial_rows
from dpbench.analysis.comparison import losses
from dpbench.analysis.comparison.holm import holm
from dpbench.analysis.statistics import CONFIDENCE, MOST_WIDTH
from dpbench.analysis.trial_rows import ARM
from dpbench.trial import USER_FIELDS

RULES = """A regression is, each rule erring on the side of silence:
- a trial that was ok and is not now: failed, crashed, out of time or memory, or without a test
  accuracy;
- accuracy over two seeds or more: a fall beyond tolerance, by a one-sided t test at 2.5 % of the
  seed-paired differences. Each arm is tested, and each engine's mean over its arms, which is taken
  within each seed first, since arms of one seed share their initial weights and batches. Holm's
  method (Holm 1979) corrects for the number of arms, and of engines, whatever their dependence.
  Differences that spread by less than one test example count as if they spread by one;
- accuracy of however many seeds, one included: a fall of more than a point (and than tolerance)
  that multiplies an arm's error by 2.5 or halves its accuracy, or adds a quarter to the mean error
  of an engine's five arms or more;
- the test loss of a loss of the user's, where targets are no classes and there is no accuracy: a
  rise beyond 1 % of it, by the same test over two seeds or more; or to 2.5 times of it;
- overhead, on the same hardware: the whole interval of the ratio lies above headroom times the
  whole interval before. Intervals are over the processes that measured it, whose speeds differ by
  more than the pairs of one; in rows of older versions, of one process, over these;
- epsilon of the same settings, of whatever seeds: a rise of more than a millionth, or its loss.

The tests over seeds fail unchanged code once in twenty comparisons at most. In simulations with the
means and spreads over seeds of results/mnist-grid (75 arms; bench/false_alarms.py), all rules on
accuracy together
- fail unchanged code in 1.60 % of comparisons of three seeds and 1.52 % of one seed where the
  second run draws other random numbers, and in 0 of 20,000 where it repeats the first but for
  rounding;
- see a fall of one point in all private arms in 42 % and 100 % of comparisons of three seeds, and
  in 11 % and 0 % of one seed; in one arm alone in 4 % and 42 % of three seeds."""

TOLERANCE = 0.002  # of accuracy; about the error that 10,000 test images leave at 97 %
# A collapse: what the spread over seeds hardly explains. That of an arm's error is up to 20 % of it
# on MNIST and up to 30 % on digits; that of an engine's mean error is 5 to 10 %
COLLAPSE = 0.01  # of accuracy, at least
ARM_COLLAPSE = 2.5  # times the error before; spread over seeds alone doubles it now and then
LEAST_ACCURACY = 0.5  # times the accuracy before
ENGINE_COLLAPSE, ENGINE_ARMS = 1.25, 5  # times the mean error of so many arms before
HEADROOM = 1.5  # ratios move by a quarter on a shared machine
EPSILON_TOLERANCE = 1e-6  # relative
ROUNDING = 1e-9  # of accuracies

TIMED = [
    "dataset",
    "model",
    *USER_FIELDS,
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
BY = ["engine", "implementation"]  # whose step was asked for, and whose it was
NO_ACCURACY = "no-accuracy"
_TRIAL = [*ARM, "seed"]
_NONE = {"regression": pd.Series(dtype=bool)}  # of a frame without rows


def versions(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per column of WHERE: its values `before` and `after`, and whether they are `same`.

    And one for each engine of both sides whose implementation differs, as where numba is missing.

    Args:
        before: Rows of trials and timings together: their columns WHERE and BY.
        after: As before.
    """
    rows = [
        {"what": column, "before": _values(before[column]), "after": _values(after[column])}
        for column in WHERE
    ]
    for engine in sorted(set(before["engine"]) & set(after["engine"])):
        old, new = (
            _values(side.loc[side["engine"] == engine, "implementation"])
            for side in (before, after)
        )
        if old != new:
            rows.append({"what": f"implementation of {engine}", "before": old, "after": new})
    frame = pd.DataFrame(rows)
    return frame.assign(same=frame["before"] == frame["after"])


def _values(column: "pd.Series[Any]") -> str:
    return ", ".join(sorted(map(str, column.dropna().unique())))


def apart(before: pd.DataFrame, after: pd.DataFrame) -> Iterator[str]:
    """The settings, as `dataset`, of which trials of both sides have no value in common."""
    if before.empty or after.empty:
        return
    for column in _TRIAL:
        if not before[column].isin(after[column]).any():
            yield column


def trials(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per trial of either side: `status_before` and `status_after`, `reason`, `regression`.

    A status is `ok` where the last epoch is there with a test accuracy, or with a test loss of the
    user's own loss where targets are no classes; NO_ACCURACY where it is there without;
    one of `observations.FAILURES`, or `missing`.
    """
    statuses = ["status_before", "status_after"]
    if before.empty and after.empty:  # which pandas cannot merge
        return pd.DataFrame(columns=[*_TRIAL, *statuses, "reason"]).assign(**_NONE)
    frame = _status(before).merge(
        _status(after), on=_TRIAL, how="outer", suffixes=("_before", "_after")
    )
    frame[statuses] = frame[statuses].fillna("missing")
    failed = ~frame["status_after"].isin(["ok", "missing"])
    return (
        frame.drop(columns="reason_before")
        .rename(columns={"reason_after": "reason"})
        .assign(regression=(frame["status_before"] == "ok") & failed)
    )


def _status(frame: pd.DataFrame) -> pd.DataFrame:
    done, bad = trial_rows.final(frame), trial_rows.failures(frame)
    blank = done["test_accuracy"].isna() & ~losses.scored_by_loss(done)
    done = done.assign(
        status=done["status"].mask(blank, NO_ACCURACY),
        reason=done["reason"].mask(blank, "its last epoch has no test accuracy"),
    )
    every = pd.concat([done, bad]) if len(bad) else done
    return every.drop_duplicates(_TRIAL)[[*_TRIAL, "status", "reason"]]


def accuracy(
    before: pd.DataFrame, after: pd.DataFrame, *, tolerance: float = TOLERANCE
) -> pd.DataFrame:
    """One row per arm that has accuracies of the same seeds on both sides, and per engine.

    An engine's row, of its mean over two arms or more, has `dataset` and `engine` alone of the
    arm's columns.

    Columns: those of the arm; `arms`, `seeds` and `pairs`, how many of each the row is about; the
    mean `test_accuracy_before` and `test_accuracy_after`; their `difference`, paired by seed, with
    its t interval `low` to `high`, NaN for one seed; `p_value` of the one-sided t test that the
    mean difference is -tolerance or more, NaN for one seed; `regression`. An interval wider than
    MOST_WIDTH is NaN, too.
    """
    columns = [*_TRIAL, "test_accuracy"]
    old, new = (
        trial_rows.final(side)[columns].dropna(subset="test_accuracy") for side in (before, after)
    )
    paired = old if old.empty else old.merge(new, on=_TRIAL, suffixes=("_before", "_after"))
    if paired.empty:
        return pd.DataFrame(columns=[*ARM, "arms", "seeds", "pairs", "difference"]).assign(**_NONE)
    return judged(paired, tolerance=tolerance)


def judged(
    paired: pd.DataFrame, *, tolerance: float, comparison: Sequence[str] = ()
) -> pd.DataFrame:
    """The rows of `accuracy`.

    Args:
        paired: One row per trial: the columns of its arm, `seed`, `test_accuracy_before` and
            `test_accuracy_after`.
        tolerance: Fall of accuracy that is allowed.
        comparison: Columns that tell comparisons apart, each of which is judged by itself.
    """
    engine = [*comparison, "dataset", "engine"]
    arms = _tested(paired, [*comparison, *ARM], tolerance).assign(arms=1)
    counts = arms.groupby(engine, sort=False).size().rename("arms").reset_index()
    means = _tested(paired, engine, tolerance).merge(counts, on=engine)
    means = means[means["arms"] > 1]
    frame = pd.concat([arms, means], ignore_index=True) if len(means) else arms
    families = [*(frame[name] for name in comparison), frame["arms"] == 1]
    fallen = holm(frame["p_value"], families)
    return frame.assign(regression=fallen | _collapsed(frame, tolerance))


def _tested(paired: pd.DataFrame, by: list[str], tolerance: float) -> pd.DataFrame:
    """One row per value of the columns `by`: means over seeds, and the t test of the differences.

    Several arms of one value are averaged within each seed first.
    """
    before, after = "test_accuracy_before", "test_accuracy_after"
    within = paired.groupby([*by, "seed"], dropna=False, sort=False)
    seeds = within[[before, after]].mean().assign(pairs=within.size()).reset_index()
    seeds["change"] = seeds[after] - seeds[before]
    frame = (
        seeds.groupby(by, dropna=False, sort=False)
        .agg(
            seeds=("seed", "size"),
            pairs=("pairs", "sum"),
            test_accuracy_before=(before, "mean"),
            test_accuracy_after=(after, "mean"),
            difference=("change", "mean"),
            spread=("change", "std"),
        )
        .reset_index()
    )
    n, mean = frame["seeds"], frame["difference"]
    spread = frame.pop("spread")  # NaN for one seed, and with it all that follows from it
    half = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * spread / n**0.5
    half = half.where(2 * half <= MOST_WIDTH)  # one that holds half of the scale says nothing
    # accuracies count examples, so that two or three differences may be equal by chance
    error = spread.clip(lower=frame["dataset"].map(_examples(seeds))) / n**0.5
    p_value = special.stdtr(n - 1, (mean + tolerance) / error)
    return frame.assign(low=mean - half, high=mean + half, p_value=p_value)


def _examples(seeds: pd.DataFrame) -> dict[str, float]:
    """What one test example adds to an accuracy, by dataset.

    Of a dataset that is not built in nobody says how many there are: it is at most the least
    distance between two of its accuracies.
    """
    found = {}
    for name, rows in seeds.groupby("dataset"):
        if name in datasets.names():
            found[str(name)] = 1 / datasets.spec(str(name)).test_examples
            continue
        both = [rows[f"test_accuracy_{side}"] for side in ("before", "after")]
        gaps = np.diff(np.unique(pd.concat(both).to_numpy(float)))
        found[str(name)] = float(min(gaps[gaps > ROUNDING], default=0.0))
    return found


def _collapsed(frame: pd.DataFrame, tolerance: float) -> "pd.Series[bool]":
    """Which rows of `accuracy` fall by more than any spread over seeds explains."""
    old, new = frame["test_accuracy_before"], frame["test_accuracy_after"]
    arm = (1 - new > ARM_COLLAPSE * (1 - old)) | (new < LEAST_ACCURACY * old)
    engine = (1 - new > ENGINE_COLLAPSE * (1 - old)) & (frame["arms"] >= ENGINE_ARMS)
    return (old - new > max(COLLAPSE, tolerance)) & engine.mask(frame["arms"] == 1, arm)


def overhead(
    before: pd.DataFrame, after: pd.DataFrame, *, headroom: float = HEADROOM
) -> pd.DataFrame:
    """One row per engine and batch size timed on both sides in the same way on the same hardware.

    Columns: those of TIMED; what `step_overhead.overhead` gives, `_before` and `_after`; `growth`,
    the ratio after over the ratio before; `regression`.
    """
    if before.empty or after.empty:
        return pd.DataFrame(columns=[*TIMED, "growth"]).assign(**_NONE)
    frame = step_overhead.overhead(before, TIMED).merge(
        step_overhead.overhead(after, TIMED), on=TIMED, suffixes=("_before", "_after")
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
    columns = ["epsilon_before", "accountant_before", "epsilon_after", "accountant_after", "rise"]
    if before.empty or after.empty:
        return pd.DataFrame(columns=[*ARM, *columns]).assign(**_NONE)
    sides = []
    for side in (before, after):
        last = trial_rows.private(trial_rows.final(side)).groupby(ARM, dropna=False, sort=False)
        sides.append(last.agg(epsilon=("epsilon", "max"), accountant=("accountant", "first")))
    frame = (
        sides[0].reset_index().merge(sides[1].reset_index(), on=ARM, suffixes=("_before", "_after"))
    )
    old, new = frame["epsilon_before"], frame["epsilon_after"]
    rise = (new / old - 1).where(new != old, 0.0)  # infinite on both sides is the same
    lost = old.notna() & new.isna()
    return frame.assign(rise=rise, regression=(rise > EPSILON_TOLERANCE) | lost)
