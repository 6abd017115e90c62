import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import make_trial
from test_analysis import frame, timings
from test_store import WHERE

from dpbench import analysis, differences, store
from dpbench.trial import Epoch

BEFORE = [0.900, 0.904, 0.902, 0.906]


def arm(accuracies: list[float], noise: float = 1.0, epsilon: float = 2.0) -> pd.DataFrame:
    """Finished trials of one arm, a seed each."""
    return frame(
        *(
            (make_trial(seed=seed, noise_multiplier=noise), 1, accuracy, epsilon)
            for seed, accuracy in enumerate(accuracies)
        )
    )


def moved(by: list[float]) -> pd.DataFrame:
    return arm([old + change for old, change in zip(BEFORE, by, strict=True)])


def test_the_interval_is_that_of_the_seed_paired_difference() -> None:
    changes = [-0.010, -0.012, -0.008, -0.014]
    (row,) = differences.accuracy(arm(BEFORE), moved(changes)).to_dict("records")
    # t(0.975, 3 degrees) = 3.18245 times s / sqrt(4), s = 0.00258199
    assert row["difference"] == pytest.approx(-0.011)
    assert row["high"] - row["difference"] == pytest.approx(3.18245 * 0.00258199 / 2, rel=1e-4)
    assert row["pairs"] == 4
    assert row["regression"]


@pytest.mark.parametrize(
    ("changes", "worse"),
    {
        "nothing": ([0.0, 0.0, 0.0, 0.0], False),
        "noise": ([0.004, -0.006, 0.001, -0.003], False),
        "a fall within the tolerance": ([-0.0011, -0.0012, -0.0010, -0.0011], False),
        "a rise": ([0.02, 0.021, 0.019, 0.02], False),
        "a fall": ([-0.02, -0.021, -0.019, -0.02], True),
        "the same fall for every seed": ([-0.02, -0.02, -0.02, -0.02], True),
    }.values(),
)
def test_a_regression_is_a_fall_beyond_tolerance_and_noise(
    changes: list[float], worse: bool
) -> None:
    (row,) = differences.accuracy(arm(BEFORE), moved(changes)).to_dict("records")
    assert row["regression"] is worse
    if not math.isclose(row["high"], row["low"]):
        assert (row["high"] < -differences.TOLERANCE) is worse


def test_seeds_are_paired_and_others_left_out() -> None:
    after = moved([0.0] * 4).iloc[::-1].iloc[:3]  # other order, and one seed less
    (row,) = differences.accuracy(arm(BEFORE), after).to_dict("records")
    assert (row["pairs"], row["difference"]) == (3, 0.0)


def test_one_seed_has_no_interval_and_fails_by_collapse_only() -> None:
    for after, worse in ((0.85, False), (0.1, True)):
        (row,) = differences.accuracy(arm([0.9]), arm([after])).to_dict("records")
        assert math.isnan(row["low"])
        assert row["regression"] is worse


def test_an_engine_that_got_worse_is_seen_over_arms_of_one_seed() -> None:
    before = pd.concat([arm([0.9], noise) for noise in (1, 2, 3, 4, 5)])
    after = pd.concat(
        [
            arm([0.9 - fall], noise)
            for noise, fall in enumerate((0.02, 0.021, 0.019, 0.02, 0.018), 1)
        ]
    )
    *arms, engine = differences.accuracy(before, after).to_dict("records")
    assert not any(row["regression"] for row in arms)
    assert (engine["arms"], engine["pairs"], engine["regression"]) == (5, 5, True)


def test_an_unchanged_stack_rarely_fails() -> None:
    """Twenty arms of three seeds whose noise draws anew: uncorrected, two in five would fail."""
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(60):
        sides = [
            pd.DataFrame(
                {
                    **differences_arm,
                    "seed": seed,
                    "status": "ok",
                    "epoch": 1,
                    "test_accuracy": 0.95 + 0.003 * rng.standard_normal(),
                }
                for noise in range(20)
                for differences_arm in [{**ARM_COLUMNS, "noise_multiplier": float(noise)}]
                for seed in range(3)
            )
            for _ in range(2)
        ]
        failed += differences.accuracy(*sides, tolerance=0.0)["regression"].any()
    assert failed <= 6  # 2.5 % of 60 is 1.5


ARM_COLUMNS = {name: value for name, value in arm([0.9]).iloc[0].items() if name in analysis.ARM}


def test_overhead_fails_beyond_headroom_of_both_intervals() -> None:
    where = {"dataset": "digits", "device_name": "a", "threads": 1, "physical_batch_size": 256}
    before = timings([2.0, 2.1, 2.2, 2.3, 2.4, 2.1]).assign(**where)
    for factor, worse in ((1.0, False), (1.4, False), (1.6, False), (2.0, True)):
        after = before.assign(seconds_per_step=factor * before["seconds_per_step"])
        (row,) = differences.overhead(before, after).to_dict("records")
        assert row["growth"] == pytest.approx(factor)
        assert row["regression"] is worse


def test_other_hardware_is_not_compared_and_a_null_is_a_value() -> None:
    where = {"dataset": "digits", "device_name": "a", "threads": 1, "physical_batch_size": math.nan}
    before = timings([2.0] * 6).assign(**where)
    assert len(differences.overhead(before, before)) == 1
    assert differences.overhead(before, before.assign(device_name="b")).empty
    assert differences.overhead(before, before.assign(threads=2)).empty


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (2.0, 2.0, False),
        (2.0, 2.0 * (1 + 1e-7), False),
        (2.0, 2.0 * (1 + 1e-5), True),
        (2.0, 1.0, False),
        (2.0, math.inf, True),
        (math.inf, math.inf, False),
        (2.0, math.nan, True),
    ],
)
def test_epsilon_fails_by_a_millionth_or_by_its_loss(
    before: float, after: float, worse: bool
) -> None:
    old, new = arm([0.9], epsilon=before), arm([0.9, 0.9], epsilon=after)
    (row,) = differences.epsilon(old, new).to_dict("records")
    assert row["regression"] is worse


def test_a_trial_that_fails_now_is_a_regression_and_one_that_is_missing_is_not() -> None:
    trials = [make_trial(seed=seed) for seed in range(3)]
    before = frame(*((trial, 1, 0.9, 2.0) for trial in trials[:2]))
    failed = store.trial_row(trials[0], Epoch(epoch=1, status="failed", reason="diverged"), WHERE)
    typed = pa.Table.from_pylist([failed], schema=store.TRIALS).to_pandas()
    after = pd.concat([frame((trials[2], 1, 0.9, 2.0)), typed])
    found = differences.trials(before, after).set_index("seed")
    assert found["status_before"].to_dict() == {0: "ok", 1: "ok", 2: "missing"}
    assert found["status_after"].to_dict() == {0: "failed", 1: "missing", 2: "ok"}
    assert found["regression"].to_dict() == {0: True, 1: False, 2: False}
    assert found.loc[0, "reason"] == "diverged"


def test_versions_of_both_sides() -> None:
    before, after = arm([0.9]), arm([0.9]).assign(opacus_version="99")
    found = differences.versions(before, after).set_index("what")
    assert found.loc["opacus_version", "after"] == "99"
    assert not found.loc["opacus_version", "same"]
    assert found.loc["torch_version", "same"]
