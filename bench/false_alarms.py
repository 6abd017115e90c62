"""How often `python -m dpbench.compare` fails an unchanged program, and how often it sees a fall.

Two sweeps of the same trials are drawn from a model of the arms of results/mnist-grid, and judged
by the rules of `compare` themselves, again and again: the fraction with a regression is the rate of
false alarms. With a point taken off every arm, or off one, it is the power.

The model: an arm's accuracy is normal, with the mean and the standard deviation over seeds that
results/mnist-grid has. Of its variance a part is shared by all arms of a seed, which have their
initial weights in common, and another by those of the same batch size, which have their batches in
common; both parts are estimated from results/mnist-grid. The second sweep draws its seeds anew
(`other draws`, as after a change of the random numbers, or on a GPU), or repeats the first but for
some test images (`same draws`, as after a change of the order of sums; how many images is an
assumption).

    python bench/false_alarms.py            # about a minute on one core
    python bench/false_alarms.py --short    # some seconds
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from dpbench import cli, engines, store, strings
from dpbench.analysis import trial_rows
from dpbench.analysis.comparison import differences
from dpbench.analysis.statistics import CONFIDENCE
from dpbench.analysis.trial_rows import ARM
from dpbench.measurement import environment
from dpbench.store import history

STORE = Path(__file__).parent.parent / "results" / "mnist-grid"
IMAGES = 10_000  # of MNIST's test set
ROUNDING = 5.0  # test images by which an accuracy moves in `same draws`, standard deviation
AT_ONCE = 200  # comparisons that are drawn and judged together
FALL = 0.01
SEEDS = (3, 1)  # of a sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What accuracies are drawn from.

    Attributes:
        arms: A row each: the columns of ARM.
        mean: Of each arm's accuracy.
        deviation: Of each arm's accuracy, over seeds.
        shared: The part of the variance that all arms of a seed share.
        shared_by_size: The part that those of the same batch size share on top of it.
    """

    arms: pd.DataFrame
    mean: np.ndarray  # [arms]
    deviation: np.ndarray  # [arms]
    shared: float
    shared_by_size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """In how many of some comparisons there was a regression.

    Attributes:
        seeds: Of each sweep.
        draws: `other draws` or `same draws`.
        fall: Of accuracy, in points.
        arms: That fall: `none`, `all`, `private`, or `one`, drawn anew for each comparison.
        comparisons: That were simulated.
        regressions: How many of them had one or more.
    """

    seeds: int
    draws: str
    fall: float
    arms: str
    comparisons: int
    regressions: int

    @property
    def rate(self) -> float:
        """The fraction of comparisons with a regression."""
        return self.regressions / self.comparisons

    @property
    def interval(self) -> tuple[float, float]:
        """The exact interval of the rate (Clopper and Pearson 1934)."""
        k, n, tail = self.regressions, self.comparisons, (1 - CONFIDENCE) / 2
        low = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, tail))
        high = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1 - tail))
        return low, high


def model(trials: pd.DataFrame) -> Model:
    """The model of a store's arms that have several seeds."""
    last = trial_rows.final(trials)
    arms = last.groupby(ARM, dropna=False, sort=False)
    seen = arms["test_accuracy"].agg(["mean", "std"]).reset_index()
    own = (last["test_accuracy"] - arms["test_accuracy"].transform("mean")) / arms[
        "test_accuracy"
    ].transform("std")
    same, other = _correlations(own, last)
    return Model(
        arms=seen[ARM],
        mean=seen["mean"].to_numpy(),
        deviation=seen["std"].to_numpy(),
        shared=other,
        shared_by_size=same - other,
    )


def _correlations(residuals: "pd.Series[float]", trials: pd.DataFrame) -> tuple[float, float]:
    """The mean correlation over seeds of two arms of the same batch size, and of other ones.

    The sum of products over all pairs of different residuals is that of the sums' squares less that
    of the residuals' squares, each of which is (seeds - 1) in sum over an arm.

    Args:
        residuals: Of each trial, over its arm's standard deviation.
        trials: In the same order.
    """
    degrees = trials["seed"].nunique() - 1
    products, pairs = [], []
    for keys in (["seed", "batch_size"], ["seed"]):
        sums = residuals.groupby([trials[key] for key in keys]).agg(["sum", "size"])
        products.append(float((sums["sum"] ** 2).sum()) - float((residuals**2).sum()))
        sizes = sums["size"].groupby(level=keys[1:]).first() if keys[1:] else sums["size"][:1]
        pairs.append(float((sizes * (sizes - 1)).sum()))
    same = products[0] / degrees / pairs[0]
    other = (products[1] - products[0]) / degrees / (pairs[1] - pairs[0])
    return same, min(max(other, 0.0), same)


def regressions(
    drawn_from: Model,
    rng: np.random.Generator,
    *,
    seeds: int,
    draws: str,
    fall: float,
    arms: str,
    times: int,
) -> int:
    """In how many of so many comparisons `differences.judged` finds a regression."""
    shape = (times, len(drawn_from.arms), seeds)
    before = drawn_from.mean[:, None] + _spread(drawn_from, rng, shape)
    if draws == "same draws":
        after = before + rng.normal(0, ROUNDING / IMAGES, shape)
    else:
        after = drawn_from.mean[:, None] + _spread(drawn_from, rng, shape)
    falls = np.full(shape[:2], float(arms == "all"))  # [comparisons, arms]
    if arms == "private":
        falls[:, ~drawn_from.arms["engine"].isin(engines.non_private_names())] = 1
    elif arms == "one":
        falls[np.arange(times), rng.integers(0, shape[1], times)] = 1
    after = after - fall * falls[:, :, None]
    found = differences.judged(
        paired(drawn_from.arms, before, after),
        tolerance=differences.TOLERANCE,
        comparison=["comparison"],
    )
    return int(found.groupby("comparison")["regression"].any().sum())


def paired(arms: pd.DataFrame, before: np.ndarray, after: np.ndarray) -> pd.DataFrame:
    """The rows that `differences.judged` takes, with a column `comparison`.

    Args:
        arms: A row each.
        before: Accuracies [comparisons, arms, seeds]; they are rounded to whole test images.
        after: As before.
    """
    comparison, arm, seed = np.indices(before.shape).reshape(3, -1)
    rows = arms.iloc[arm].reset_index(drop=True)
    sides = {
        f"test_accuracy_{name}": np.clip(np.round(side.ravel(), 4), 0, 1)
        for name, side in (("before", before), ("after", after))
    }
    return rows.assign(comparison=comparison, seed=seed, **sides)


def _spread(drawn_from: Model, rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Deviations from the arms' means, [comparisons, arms, seeds]."""
    times, _, seeds = shape
    size, of_arm = np.unique(drawn_from.arms["batch_size"], return_inverse=True)
    every = rng.standard_normal((times, 1, seeds))
    by_size = rng.standard_normal((times, len(size), seeds))[:, of_arm]
    parts = (drawn_from.shared, drawn_from.shared_by_size)
    mixed = parts[0] ** 0.5 * every + parts[1] ** 0.5 * by_size
    mixed = mixed + (1 - sum(parts)) ** 0.5 * rng.standard_normal(shape)
    return np.asarray(drawn_from.deviation[:, None] * mixed)


def rates(drawn_from: Model, *, false_alarms: int, power: int, seed: int) -> Iterator[Rate]:
    """The rate of false alarms, and the power for a fall of a point, each for both draws."""
    rng = np.random.default_rng(seed)
    for seeds, (arms, fall, comparisons), draws in itertools.product(
        SEEDS,
        (("none", 0.0, false_alarms), *((arms, FALL, power) for arms in ("all", "private", "one"))),
        ("other draws", "same draws"),
    ):
        found = 0
        for start in range(0, comparisons, AT_ONCE):
            found += regressions(
                drawn_from,
                rng,
                seeds=seeds,
                draws=draws,
                fall=fall,
                arms=arms,
                times=min(AT_ONCE, comparisons - start),
            )
        yield Rate(
            seeds=seeds,
            draws=draws,
            fall=100 * fall,
            arms=arms,
            comparisons=comparisons,
            regressions=found,
        )


def read(simulated: Mapping[str, Any]) -> list[Rate]:
    """The rates of the object that --json prints."""
    names = [each.name for each in fields(Rate)]
    return [Rate(**{name: row[name] for name in names}) for row in simulated["rates"]]


def text(found: Sequence[Rate]) -> str:
    """A table of the rates."""
    rows = []
    for each in found:
        low, high = (100 * end for end in each.interval)
        what = (
            "nothing"
            if each.arms == "none"
            else f"{each.fall:g} point, {each.arms} arm{'' if each.arms == 'one' else 's'}"
        )
        rows.append(
            (
                what,
                str(each.seeds),
                each.draws,
                f"{each.regressions:,} of {each.comparisons:,}",
                f"{100 * each.rate:.2f} %",
                f"[{low:.2f}, {high:.2f}]",
            )
        )
    return strings.table(
        ("what fell", "seeds", "after", "regressions", "rate", "95 % interval"), rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.Parser("false_alarms.py", __doc__, "0")
    parser.add_argument("--short", action="store_true", help="fewer comparisons: some seconds")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run(parser, arguments, _simulate)


def trials_of_the_grid() -> pd.DataFrame:
    """The store's rows without those that confirm a choice on seeds of their own."""
    trials = store.read_trials(STORE)
    return trials[~trials["trial_id"].isin(history.confirmations(history.read(STORE)))]


def _simulate(given: argparse.Namespace) -> int:
    started = time.process_time()
    drawn_from = model(trials_of_the_grid())
    false_alarms, power = (1_000, 200) if given.short else (20_000, 2_000)
    found = list(rates(drawn_from, false_alarms=false_alarms, power=power, seed=given.seed))
    if not given.json:
        print(f"{len(drawn_from.arms)} arms, as in results/mnist-grid")
        print(text(found))
        return 0
    facts = {
        "arms": len(drawn_from.arms),
        "deviation_median": float(np.median(drawn_from.deviation)),
        "shared": drawn_from.shared,
        "shared_by_size": drawn_from.shared_by_size,
        "tolerance": differences.TOLERANCE,
        "rounding_images": ROUNDING,
        "seed": given.seed,
        "rates": [asdict(each) | {"rate": each.rate, "interval": each.interval} for each in found],
        "cpu_seconds": time.process_time() - started,
        **environment.machine(),
    }
    print(json.dumps(facts, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
