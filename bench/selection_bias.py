"""python bench/selection_bias.py: how much choosing flatters an accuracy on the same seeds.

A sweep's settings are simulated: each setting's mean accuracies, and the spread of its seeds on the
validation and test set, are those of the trials in results/mnist-grid. In each repetition every
setting draws its seeds, the best mean validation accuracy chooses, and the chosen setting's test
accuracy is reported over the same seeds, or over as many fresh ones. Bias is what is reported less
the chosen setting's true mean; coverage is how often the 95 % t interval holds that.

In a second world all settings are alike: each has the true mean and the spread of the one that the
trials put first, so that chance alone chooses.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from dpbench import cli, store, strings
from dpbench.analysis import comparability, frontier, statistics, trial_rows
from dpbench.privacy.budgets import ANSWER_AT
from dpbench.store import history

RESULTS = Path(__file__).parent.parent / "results" / "mnist-grid"
REPETITIONS, SHORT = 20_000, 1_000
SEED = 0

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What choosing within an epsilon does to the accuracy that is reported.

    Attributes:
        epsilon_at_most: Within which settings are chosen.
        ties: Whether all settings are alike.
        arms: Settings.
        seeds: Of each.
        correlation: Of a seed's deviations on the validation and test set.
        bias_points: Of the accuracy over the seeds that chose; percentage points.
        coverage: Of its 95 % interval.
        fresh_bias_points: Over as many fresh seeds.
        fresh_coverage: Of that interval.
    """

    epsilon_at_most: float
    ties: bool
    arms: int
    seeds: int
    correlation: float
    bias_points: float
    coverage: float
    fresh_bias_points: float
    fresh_coverage: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser("python bench/selection_bias.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--short", action="store_true", help=f"{SHORT:,} repetitions")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return cli.run(parser, arguments, _print)


def _print(given: argparse.Namespace) -> int:
    repetitions = SHORT if given.short else REPETITIONS
    trials = store.read_trials(RESULTS)
    confirming = trials["trial_id"].isin(history.confirmations(history.read(RESULTS)))
    found = list(simulated(trials[~confirming], repetitions))
    if given.json:
        rows = [asdict(each) for each in found]
        print(strings.json_text(repetitions=repetitions, seed=SEED, rows=rows))
    else:
        print(text(found))
    return 0


def text(found: Sequence[Found]) -> str:
    """What is printed."""
    header = ("epsilon <=", "settings", "arms", "bias", "coverage", "fresh bias", "coverage")
    rows = [
        (
            f"{each.epsilon_at_most:g}",
            "alike" if each.ties else "as seen",
            f"{each.arms}",
            f"{each.bias_points:.2f}",
            f"{100 * each.coverage:.0f} %",
            f"{each.fresh_bias_points + 0.0:.2f}",
            f"{100 * each.fresh_coverage:.0f} %",
        )
        for each in found
    ]
    return strings.table(header, rows)


def simulated(trials: pd.DataFrame, repetitions: int) -> Iterator[Found]:
    """A row for each answered epsilon, as seen and with ties.

    Args:
        trials: Rows of `store.read_trials`.
        repetitions: Of each.
    """
    rows = comparability.comparable(trials)
    for ties in (False, True):
        for epsilon in ANSWER_AT:
            yield _simulated(rows, epsilon, repetitions, ties=ties)


def _simulated(trials: pd.DataFrame, epsilon: float, repetitions: int, *, ties: bool) -> Found:
    random = np.random.default_rng(SEED)
    arms = frontier.within(trials, epsilon)
    columns = ["validation_accuracy", "test_accuracy"]
    by = [*trial_rows.ARM, "epoch"]
    rows = trial_rows.ok(trials).merge(arms[by], on=by)
    grouped = rows.groupby(by, dropna=False)[columns]
    means = grouped.mean().to_numpy()  # [A, 2]
    deviations = (rows[columns] - grouped.transform("mean")).to_numpy()  # [A * S, 2]
    seeds = int(arms["seeds"].max())
    of_arm = grouped.ngroup().to_numpy()
    products = deviations[:, :, None] * deviations[:, None, :]  # [A * S, 2, 2]
    covariance = np.zeros((len(arms), 2, 2))
    np.add.at(covariance, of_arm, products / (seeds - 1))
    pooled = covariance.mean(axis=0)
    if ties:
        first = means[:, 0].argmax()
        means, covariance = (np.broadcast_to(of[first], of.shape) for of in (means, covariance))
    drawn = _draw(random, means, covariance, (repetitions, seeds))  # [R, S, A, 2]
    fresh = _draw(random, means, covariance, (repetitions, seeds))
    best = drawn[..., 0].mean(axis=1).argmax(axis=1)  # [R]
    true = means[best, 1]
    errors = [_errors(each, best, true) for each in (drawn, fresh)]
    (bias, coverage), (fresh_bias, fresh_coverage) = errors
    return Found(
        epsilon_at_most=epsilon,
        ties=ties,
        arms=len(arms),
        seeds=seeds,
        correlation=float(pooled[0, 1] / np.sqrt(pooled[0, 0] * pooled[1, 1])),
        bias_points=bias,
        coverage=coverage,
        fresh_bias_points=fresh_bias,
        fresh_coverage=fresh_coverage,
    )


def _draw(
    random: np.random.Generator, means: Array, covariance: Array, shape: tuple[int, int]
) -> Array:
    """Validation and test accuracies of every arm, [R, S, A, 2]."""
    values, vectors = np.linalg.eigh(covariance)  # an arm's may be singular
    roots = vectors * np.sqrt(np.clip(values, 0, None))[:, None, :]  # [A, 2, 2]
    noise = random.standard_normal((*shape, len(means), 2))
    return np.asarray(means + np.einsum("aij,rsaj->rsai", roots, noise))


def _errors(drawn: Array, best: npt.NDArray[np.int64], true: Array) -> tuple[float, float]:
    """(Bias in points, coverage) of the chosen arms' test accuracy over the drawn seeds."""
    tests = drawn[np.arange(len(best)), :, best, 1]  # [R, S]
    seeds = tests.shape[1]
    mean = tests.mean(axis=1)
    quantile = special.stdtrit(seeds - 1, (1 + statistics.CONFIDENCE) / 2)
    half = quantile * tests.std(axis=1, ddof=1) / np.sqrt(seeds)
    return float(100 * (mean - true).mean()), float((np.abs(mean - true) <= half).mean())


if __name__ == "__main__":
    sys.exit(main())
