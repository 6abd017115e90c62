import math

import pandas as pd
import pytest
from factories import WHERE, frame, make_trial, timings

from dpbench import store
from dpbench.analysis import (
    arm_means,
    comparability,
    frontier,
    loss_parts,
    selection,
    statistics,
    step_overhead,
    trial_rows,
)
from dpbench.observations import Epoch
from dpbench.reporting import answer_caveats, timing_caveats


def test_the_interval_over_seeds_is_students() -> None:
    accuracies = [0.90, 0.92, 0.97]
    rows = frame(*((make_trial(seed=i), 1, value, 2.0) for i, value in enumerate(accuracies)))
    (arm,) = arm_means.over_seeds(rows).to_dict("records")
    # half-width: t(0.975, 2 degrees) = 4.30265 times s / sqrt(3), s = 0.0360555
    assert arm["seeds"] == 3
    assert arm["test_accuracy"] == pytest.approx(0.93)
    assert arm["high"] - arm["test_accuracy"] == pytest.approx(4.30265 * 0.0360555 / 3**0.5)
    assert arm["test_accuracy"] - arm["low"] == pytest.approx(4.30265 * 0.0360555 / 3**0.5)


def test_one_seed_has_no_interval() -> None:
    (arm,) = arm_means.over_seeds(frame((make_trial(), 1, 0.9, 2.0))).to_dict("records")
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
    arms = arm_means.over_seeds(rows)
    assert sorted(arms["test_accuracy"].round(6)) == [0.7, 0.85, 0.98]


def test_the_last_epoch_within_epsilon_is_compared_and_validation_chooses() -> None:
    rows = frame(
        (make_trial(epochs=2), 1, 0.80, 1.0),
        (make_trial(epochs=2), 2, 0.90, 2.0),  # spends too much
        (make_trial(epochs=2, max_grad_norm=2.0), 1, 0.95, 0.5),
        (make_trial(epochs=2, max_grad_norm=2.0), 2, 0.70, 0.9),
        (make_trial("non-private"), 1, 0.99, None),
        (make_trial(noise_multiplier=0.0), 1, 0.99, math.inf),
    )
    arms = frontier.within(rows, 1.5)
    assert sorted(arms["test_accuracy"]) == [0.70, 0.80]
    assert frontier.chosen_by(arms) == "test_accuracy"
    assert frontier.best(arms)["test_accuracy"] == 0.80
    on_validation = arms.assign(validation_score=1 - arms["test_accuracy"])
    assert frontier.chosen_by(on_validation) == "validation_accuracy"
    assert frontier.best(on_validation)["test_accuracy"] == 0.70
    assert frontier.within(rows, 0.1).empty


@pytest.mark.parametrize("reverse", [False, True])
def test_of_equals_the_fewest_epochs_and_the_longest_trial_are_chosen(reverse: bool) -> None:
    """On every processor: numpy's own sort orders equals by the registers that there are."""
    tied = [  # rungs of early stopping, of a hundred settings
        (make_trial(epochs=epochs, batch_size=64 + clip, max_grad_norm=float(clip)), 2, 0.8, 1.0)
        for clip in range(1, 101)
        for epochs in (2, 4, 13)
    ]
    slower = (make_trial(epochs=13, max_grad_norm=0.5), 3, 0.8, 1.0)
    rows = frame(slower, *(tied[::-1] if reverse else tied))
    best = frontier.best(frontier.within(rows, 1.5))
    assert (best["epoch"], best["epochs"]) == (2, 13)
    assert best["max_grad_norm"] == (100 if reverse else 1)  # the first in the rows' order


def test_only_trials_that_are_alike_are_compared() -> None:
    rows = frame(
        (make_trial(), 1, 0.9, 2.0),
        (make_trial("non-private"), 1, 0.99, None),
        (make_trial(max_grad_norm=2.0), 1, 0.9, 2.0),
        (make_trial(max_grad_norm=3.0, delta=1e-6), 1, 0.9, 2.0),
        (make_trial(max_grad_norm=3.0, validation_examples=5), 1, 0.9, 2.0),
        (make_trial(dataset="mnist"), 1, 0.9, 2.0),
    )
    kept = comparability.comparable(rows)
    assert set(kept["dataset"]) == {"digits"}
    assert set(kept["max_grad_norm"].dropna()) == {1.0, 2.0}
    assert set(kept["engine"]) == {"opacus-hooks", "non-private"}
    assert comparability.comparable(rows.iloc[:0]).empty


def test_of_datasets_with_as_many_trials_mnist_is_shown() -> None:
    rows = frame(
        *((make_trial(dataset=name), 1, 0.9, 2.0) for name in ("digits", "mnist", "kmnist"))
    )
    assert set(comparability.comparable(rows)["dataset"]) == {"mnist"}


def test_of_a_settings_engines_the_one_with_the_most_seeds_is_compared() -> None:
    rows = frame(
        (make_trial("fused"), 1, 0.99, 2.0),
        *((make_trial("opacus-hooks", seed=seed), 1, 0.9, 2.0) for seed in range(3)),
        *((make_trial("non-private", seed=seed), 1, 0.95, None) for seed in range(3)),
    )
    assert set(comparability.comparable(rows)["engine"]) == {"opacus-hooks", "non-private"}
    as_many = rows[rows["seed"] == 0]
    assert set(comparability.comparable(as_many)["engine"]) == {"fused", "non-private"}


def test_a_lone_seed_is_left_out_where_other_arms_have_several() -> None:
    rows = frame(
        (make_trial(max_grad_norm=9.0), 1, 0.99, 2.0),
        *((make_trial(seed=seed), 1, 0.9, 2.0) for seed in range(2)),
        (make_trial("non-private"), 1, 0.95, None),  # of its kind, all are alone
    )
    kept = comparability.comparable(rows)
    assert set(kept["max_grad_norm"].dropna()) == {1.0}
    assert "non-private" in set(kept["engine"])
    alone = rows[rows["seed"] == 0]
    assert len(comparability.comparable(alone)) == len(alone)


def test_differences_are_paired_by_seed() -> None:
    # far apart over seeds, yet always 0.02 to 0.04 apart
    one = frame(*((make_trial(seed=i), 1, v, 2.0) for i, v in enumerate([0.5, 0.7, 0.9])))
    other = frame(*((make_trial(seed=i), 1, v, 2.0) for i, v in enumerate([0.48, 0.67, 0.86])))
    ahead = statistics.paired_difference(one, other.sample(frac=1, random_state=0))
    assert ahead.mean == pytest.approx(0.03)
    assert ahead.seeds == 3
    assert ahead.high - ahead.mean == pytest.approx(4.30265 * 0.01 / 3**0.5)
    assert ahead.low > 0
    two = statistics.paired_difference(one, other[other["seed"] < 1])  # only a shared seed counts
    assert two.seeds == 1
    assert two.mean == pytest.approx(0.02)
    assert math.isnan(two.low)


def test_the_loss_is_split_between_clipping_and_noise() -> None:
    rows = frame(
        (make_trial("non-private", learning_rate=0.1), 1, 0.95, None),
        (make_trial("non-private", learning_rate=9.0), 1, 0.30, None),  # not the best rate
        (make_trial(noise_multiplier=0.0), 1, 0.91, math.inf),
        (make_trial(noise_multiplier=1.0), 1, 0.88, 2.0),
        (make_trial(noise_multiplier=1.0, max_grad_norm=5.0), 1, 0.80, 2.0),  # has no control
        (make_trial("non-private", batch_size=128), 1, 0.99, None),
    )
    (split,) = loss_parts.loss_split(rows).to_dict("records")
    assert (split["noise_multiplier"], split["max_grad_norm"]) == (1.0, 1.0)
    assert split["lost"].mean == pytest.approx(0.07)
    assert split["lost_to_clipping"].mean == pytest.approx(0.04)
    assert split["lost_to_noise"].mean == pytest.approx(0.03)
    assert loss_parts.loss_split(rows[rows["noise_multiplier"] != 0]).empty


def test_the_loss_is_from_the_rate_that_validation_chooses() -> None:
    rows = frame(
        (make_trial("non-private", learning_rate=0.1), 1, 0.95, None),
        (make_trial("non-private", learning_rate=0.2), 1, 0.96, None),
        (make_trial(noise_multiplier=0.0), 1, 0.91, math.inf),
        (make_trial(noise_multiplier=1.0), 1, 0.88, 2.0),
    ).assign(validation_accuracy=[0.97, 0.94, 0.9, 0.9])
    (split,) = loss_parts.loss_split(rows).to_dict("records")
    assert split["lost"].mean == pytest.approx(0.07)


def test_the_frontier_is_what_nothing_beats() -> None:
    points = pd.DataFrame(
        {
            "epsilon": [3.0, 1.0, 2.0, 1.0, 4.0, 5.0],
            "test_accuracy": [0.90, 0.80, 0.79, 0.70, 0.90, 0.95],
        }
    )
    best = frontier.frontier(points)
    assert list(zip(best["epsilon"], best["test_accuracy"], strict=True)) == [
        (1.0, 0.80),
        (3.0, 0.90),
        (5.0, 0.95),
    ]
    assert frontier.frontier(best).equals(best)


def test_final_is_the_last_epoch_of_finished_trials() -> None:
    whole, part = make_trial(epochs=2), make_trial(epochs=2, seed=1)
    rows = frame((whole, 1, 0.5, 1.0), (whole, 2, 0.6, 2.0), (part, 1, 0.4, 1.0))
    assert trial_rows.final(rows)["trial_id"].tolist() == [whole.trial_id]
    failed = store.trial_row(part, Epoch(epoch=2, status="failed", reason="x"), WHERE)
    rows = pd.concat([rows, pd.DataFrame([failed])])
    assert trial_rows.final(rows)["trial_id"].tolist() == [whole.trial_id]
    assert trial_rows.failures(rows)["reason"].tolist() == ["x"]


def test_overhead_is_the_median_of_paired_ratios() -> None:
    (row,) = step_overhead.overhead(timings([3, 1, 2, 9, 2.5, 2.2, 2.1, 2.3, 2.4])).to_dict(
        "records"
    )
    assert row["overhead_ratio"] == pytest.approx(2.3)
    # nine draws: the second smallest and largest miss the median with probability 0.039
    assert row["overhead_ratio_low"] == pytest.approx(2.0)
    assert row["overhead_ratio_high"] == pytest.approx(3.0)
    assert row["examples_per_second"] == pytest.approx(64 / 0.023)
    assert row["baseline_examples_per_second"] == pytest.approx(6400)
    assert row["spread"] == pytest.approx(0.4 / 2.3)  # quartiles at 2.1 and 2.5
    assert row["peak_memory_bytes"] == 2**20
    assert (row["pairs"], row["pairs_alone"]) == (9, 8)
    assert not row["alone"]


def test_overhead_of_several_processes_is_the_median_of_theirs() -> None:
    """And its interval the range of six, whatever pairs of one process say."""
    of_each = [[2.0, 2.0, 9.0], [2.1, 2.1, 2.1], [2.2, 2.2, 1.0], [2.4] * 3, [2.6] * 3, [3.0] * 3]
    rows = timings([ratio for pairs in of_each for ratio in pairs])
    rows = rows.assign(process=[process for process in range(6) for _ in range(3)])
    (row,) = step_overhead.overhead(rows).to_dict("records")
    assert row["overhead_ratio"] == pytest.approx(2.3)
    ends = row["overhead_ratio_low"], row["overhead_ratio_high"]
    assert ends == pytest.approx((2.0, 3.0))
    assert (row["processes"], row["pairs"]) == (6, 18)
    (alone,) = step_overhead.overhead(rows[rows["process"] == 0]).to_dict("records")
    assert alone["processes"] == 1
    assert alone["overhead_ratio_high"] == pytest.approx(9.0)


def test_a_report_says_which_intervals_leave_out_the_processes() -> None:
    old = timings([2.0] * 7)
    new = old.assign(batch_size=256, process=range(7))
    few = old.assign(batch_size=512, process=[0, 0, 0, 1, 1, 2, 2])
    said = list(timing_caveats.of_timings(pd.concat([old, new, few])))
    assert any(line.startswith("1 of 3 overheads were timed in one process") for line in said)
    assert "Fewer than 6 processes: the bar is the whole range of their medians." in said
    assert not any("Fewer than 6 pairs" in line for line in said)
    assert not any("one process" in line for line in timing_caveats.of_timings(new))


@pytest.mark.parametrize("n", [6, 9, 15, 40])
def test_the_medians_interval_covers_and_is_the_narrowest_that_does(n: int) -> None:
    from scipy.stats import binom

    low, high = statistics.median_interval([float(i) for i in range(1, n + 1)])
    k = int(low)
    assert high == n + 1 - k
    assert 2 * binom.cdf(k - 1, n, 0.5) <= 0.05
    assert 2 * binom.cdf(k, n, 0.5) > 0.05


def test_noise_that_was_drawn_in_two_ways_is_not_averaged() -> None:
    """Two seeds of an older version, which shared their noise over arms, and three of today's."""
    old = frame(*((make_trial(seed=seed), 1, 0.5, 2.0) for seed in (0, 1)))
    new = frame(*((make_trial(seed=seed), 1, 0.9, 2.0) for seed in (2, 3, 4)))
    both = pd.concat([old, new.assign(noise_derivation="trial")], ignore_index=True)
    arms = arm_means.over_seeds(both).set_index("seeds")
    assert arms["test_accuracy"].to_dict() == pytest.approx({2: 0.5, 3: 0.9})
    listed = selection.arms(both)
    assert (listed["trials"].tolist(), listed["test_accuracy"].tolist()) == ([5], [0.9])
    kept = comparability.comparable(both)
    assert set(kept["seed"]) == {2, 3, 4}
    assert list(answer_caveats.of_left_out(both, kept)) == [
        "In the table of arms, and in no figure or answer: 2 trials that draw their noise in "
        "another way than the arm's others (column noise_derivation)."
    ]
    (note,) = answer_caveats.of_noise(comparability.comparable(old))
    assert note.startswith("2 trials of an older dpbench drew the noise from the seed alone")
    assert note.endswith("for benchmarking and not for release.")
    (note,) = answer_caveats.of_noise(kept)
    assert "share their initial weights and batches, and no noise" in note
