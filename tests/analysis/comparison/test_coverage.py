"""What counts as checked."""

import math

import pandas as pd
import pytest
from factories import arm, make_trial, timings

from dpbench.analysis.comparison import changes, coverage, differences, losses
from dpbench.analysis.comparison.coverage import Check

WHERE = {"dataset": "digits", "device_name": "a", "threads": 1, "physical_batch_size": 256.0}


def arms(before: pd.DataFrame, after: pd.DataFrame) -> list[tuple[str | None, bool]]:
    found = coverage.arms(differences.trials(before, after))
    return list(zip(found["missing"], found["in_part"], strict=True))


NONE = math.nan


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    {
        "the same seeds": ([0.9, 0.9], [0.9, 0.9], [(None, False)]),
        "more seeds": ([0.9], [0.9, 0.9], [(None, False)]),
        "a seed less": ([0.9, 0.9], [0.9], [("AFTER lacks 1 of its 2 seeds (1)", True)]),
        "no seed": ([0.9, 0.9], [], [("AFTER has none of its seeds (0, 1)", False)]),
        "one that fails now": ([0.9, 0.9], [0.9, NONE], [(None, False)]),
        "all of which fail now": ([0.9, 0.9], [NONE, NONE], [(None, False)]),
        "one that failed before": ([0.9, NONE], [0.9], [(None, False)]),
        "one that works now": ([NONE], [0.9], [(None, False)]),
        "failures on both sides": ([NONE], [NONE], []),
        "what only AFTER has": ([], [0.9], []),
        "nothing": ([], [], []),
    }.values(),
)
def test_an_arm_is_checked_where_no_seed_of_it_is_missing(
    before: list[float], after: list[float], expected: list[tuple[str | None, bool]]
) -> None:
    none = arm([0.9]).iloc[:0]
    assert arms(*(arm(each) if each else none for each in (before, after))) == expected


def test_seeds_too_large_for_a_float_are_named_to_the_digit() -> None:
    trial = make_trial(seed=2**62 + 1)
    before = arm([0.9]).assign(seed=trial.seed)
    ((why, _),) = arms(before, arm([0.9]))
    assert why == f"AFTER has none of its seeds ({2**62 + 1})"


def test_a_timing_is_held_against_the_one_most_like_it() -> None:
    before = timings([2.0] * 6).assign(**WHERE)
    far = before.assign(threads=2, device_name="b")
    near = before.assign(physical_batch_size=math.nan)
    (why,) = coverage.timings(before, pd.concat([far, near]))["missing"]
    assert why == "other physical_batch_size: 256 before, none after"
    (why,) = coverage.timings(before, far)["missing"]
    assert why == "other device_name: a before, b after; other threads: 1 before, 2 after"
    assert list(coverage.timings(before, pd.concat([far, before]))["missing"]) == [None]
    assert list(coverage.timings(near, near)["missing"]) == [None]  # a null is a value
    (why,) = coverage.timings(before, before.iloc[:0])["missing"]
    assert why == "AFTER has no such timing"
    assert coverage.timings(before.iloc[:0], before).empty


def checks(before: pd.DataFrame, after: pd.DataFrame) -> list[Check]:
    """Of two sides without timings."""
    trials, epsilon = differences.trials(before, after), differences.epsilon(before, after)
    none = timings([2.0]).assign(**WHERE).iloc[:0]
    return list(
        coverage.checks(
            trials=changes.labelled(trials),
            accuracy=changes.labelled(differences.accuracy(before, after)),
            overhead=changes.labelled(differences.overhead(none, none)),
            epsilon=changes.labelled(epsilon),
            loss=changes.labelled(losses.loss(before, after)),
            arms=changes.labelled(coverage.arms(trials)),
            timings=changes.labelled(coverage.timings(none, none)),
            epsilons=changes.labelled(coverage.epsilons(before, epsilon)),
        )
    )


def test_every_regression_is_in_one_check() -> None:
    before = pd.concat([arm([0.9, 0.91, 0.9], noise) for noise in (1.0, 2.0)])
    after = pd.concat(
        [
            arm([0.1, 0.1, NONE], 1.0, epsilon=3.0),
            arm([0.9, 0.91, 0.9], 2.0),
        ]
    )
    found = checks(before, after)
    assert [(check.kind, check.missing, len(check.regressions)) for check in found] == [
        ("arm", None, 2),
        ("arm", None, 0),
        ("engine", None, 0),  # of two seeds and two arms
        ("epsilon", None, 1),
        ("epsilon", None, 0),
    ]
    assert found[0].regressions == (
        "seed 2 was ok, and fails now (no-accuracy): its last epoch has no test accuracy",
        "accuracy -80.50 points over 2 seeds",
    )
    assert coverage.summary(found) == ("checked 2 of 2 arms, 0 of 0 timings, 2 of 2 epsilons")


def test_an_epsilon_of_a_missing_arm_is_missing_with_it() -> None:
    found = checks(pd.concat([arm([0.9], 1.0), arm([0.9], 2.0)]), arm([0.9], 1.0))
    assert coverage.counts(found)["epsilons"] == {"checked": 1, "in_part": 0, "of": 2}
    assert [check.kind for check in coverage.missing(found)] == ["arm"]
    blank = arm([NONE], 1.0)  # no accuracy, and so no arm that is due, but an epsilon
    found = checks(blank, arm([0.9], 2.0))
    assert [check.kind for check in coverage.missing(found)] == ["epsilon"]
