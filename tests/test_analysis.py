import math

import pandas as pd
import pytest
from conftest import make_trial
from test_store import WHERE

from dpbench import analysis, store
from dpbench.trial import Epoch, Trial


def frame(*measured: tuple[Trial, int, float, float | None]) -> pd.DataFrame:
    """Rows of trials from (trial, epoch, test accuracy, epsilon)."""
    return pd.DataFrame(
        store.trial_row(
            trial,
            Epoch(epoch=epoch, test_accuracy=accuracy, epsilon=epsilon, accountant="prv"),
            WHERE,
        )
        for trial, epoch, accuracy, epsilon in measured
    )


def test_the_interval_over_seeds_is_students() -> None:
    accuracies = [0.90, 0.92, 0.97]
    rows = frame(*((make_trial(seed=i), 1, value, 2.0) for i, value in enumerate(accuracies)))
    (arm,) = analysis.over_seeds(rows).to_dict("records")
    # half-width: t(0.975, 2 degrees) = 4.30265 times s / sqrt(3), s = 0.0360555
    assert arm["seeds"] == 3
    assert arm["test_accuracy"] == pytest.approx(0.93)
    assert arm["high"] - arm["test_accuracy"] == pytest.approx(4.30265 * 0.0360555 / 3**0.5)
    assert arm["test_accuracy"] - arm["low"] == pytest.approx(4.30265 * 0.0360555 / 3**0.5)


def test_one_seed_has_no_interval() -> None:
    (arm,) = analysis.over_seeds(frame((make_trial(), 1, 0.9, 2.0))).to_dict("records")
    assert (arm["seeds"], arm["test_accuracy"]) == (1, 0.9)
    assert math.isnan(arm["low"])
    assert math.isnan(arm["high"])


def test_arms_differ_by_what_was_asked_and_not_by_seed() -> None:
    rows = frame(
        (make_trial(), 1, 0.9, 2.0),
        (make_trial(seed=1), 1, 0.8, 2.0),
        (make_trial(noise_multiplier=2.0), 1, 0.7, 1.0),
        (make_trial("non-private"), 1, 0.99, None),  # its nulls are an arm, too
        (make_trial("non-private", seed=1), 1, 0.97, None),
    )
    arms = analysis.over_seeds(rows)
    assert sorted(arms["test_accuracy"].round(6)) == [0.7, 0.85, 0.98]


def test_the_frontier_is_what_nothing_beats() -> None:
    points = pd.DataFrame(
        {
            "epsilon": [3.0, 1.0, 2.0, 1.0, 4.0, 5.0],
            "test_accuracy": [0.90, 0.80, 0.79, 0.70, 0.90, 0.95],
        }
    )
    best = analysis.frontier(points)
    assert list(zip(best["epsilon"], best["test_accuracy"], strict=True)) == [
        (1.0, 0.80),
        (3.0, 0.90),
        (5.0, 0.95),
    ]
    assert analysis.frontier(best).equals(best)


def test_final_is_the_last_epoch_of_finished_trials() -> None:
    whole, part = make_trial(epochs=2), make_trial(epochs=2, seed=1)
    rows = frame((whole, 1, 0.5, 1.0), (whole, 2, 0.6, 2.0), (part, 1, 0.4, 1.0))
    assert analysis.final(rows)["trial_id"].tolist() == [whole.trial_id]
    failed = store.trial_row(part, Epoch(epoch=2, status="failed", reason="x"), WHERE)
    rows = pd.concat([rows, pd.DataFrame([failed])])
    assert analysis.final(rows)["trial_id"].tolist() == [whole.trial_id]
    assert analysis.failures(rows)["reason"].tolist() == ["x"]


def timings(ratios: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "engine": "opacus-hooks",
            "batch_size": 64,
            "device": "cpu",
            "seconds_per_step": [0.01 * ratio for ratio in ratios],
            "baseline_seconds_per_step": 0.01,
            "alone": [True] * (len(ratios) - 1) + [False],
        }
    )


def test_overhead_is_the_median_of_paired_ratios() -> None:
    (row,) = analysis.overhead(timings([3, 1, 2, 9, 2.5, 2.2, 2.1, 2.3, 2.4])).to_dict("records")
    assert row["overhead_ratio"] == pytest.approx(2.3)
    # nine draws: the second smallest and largest miss the median with probability 0.039
    assert row["overhead_ratio_low"] == pytest.approx(2.0)
    assert row["overhead_ratio_high"] == pytest.approx(3.0)
    assert row["examples_per_second"] == pytest.approx(64 / 0.023)
    assert row["baseline_examples_per_second"] == pytest.approx(6400)
    assert row["pairs"] == 9
    assert not row["alone"]


@pytest.mark.parametrize("n", [6, 9, 15, 40])
def test_the_medians_interval_covers_and_is_the_narrowest_that_does(n: int) -> None:
    from scipy.stats import binom

    low, high = analysis._median_interval([float(i) for i in range(1, n + 1)])
    k = int(low)
    assert high == n + 1 - k
    assert 2 * binom.cdf(k - 1, n, 0.5) <= 0.05
    assert 2 * binom.cdf(k, n, 0.5) > 0.05
