"""The answers hold the frame's numbers, and their words say what they do not."""

import math

import pandas as pd
import pytest
from conftest import make_trial
from test_analysis import frame, timings

from dpbench import accounting, analysis, summary, wording
from dpbench.trial import Trial


def rows(seeds: int, *, validated: bool = False) -> pd.DataFrame:
    measured: list[tuple[Trial, int, float, float | None]] = []
    for seed in range(seeds):
        measured.append((make_trial("non-private", seed=seed), 1, 0.95, None))
        for clip, accuracy in ((1.0, 0.90), (2.0, 0.86)):
            trial = make_trial(max_grad_norm=clip, seed=seed)
            measured.append((trial, 1, accuracy + 0.01 * seed, 2.5))
    made = frame(*measured).assign(steps=22, sample_rate=64 / 1437)
    return made.assign(validation_accuracy=1 - made["test_accuracy"]) if validated else made


NO_TIMINGS = timings([1.0]).iloc[:0]


def at_three(trials: pd.DataFrame, timed: pd.DataFrame = NO_TIMINGS) -> summary.Answer:
    return summary.answers(trials, timed)[1]


def test_the_answer_with_its_interval_and_the_distance_to_the_next() -> None:
    below, answer, _ = summary.answers(rows(3), NO_TIMINGS)
    assert below.best is None
    assert "there is no answer: no epoch of a private trial" in wording.sentence(below)
    # t(0.975, 2) x 0.01 / sqrt(3) = 0.0248
    assert wording.sentence(answer) == (
        "With epsilon at most 3 (delta 1e-5, PRV), the best setting is noise multiplier 1, "
        "clipping norm 1, batch size 64, learning rate 0.1 and 1 epoch: it reaches 91.00 ± 2.48 % "
        "(3 seeds), loses 4.00 "
        "points (1.52 to 6.48) against the best non-private setting, and what it costs in time was "
        "not measured."
    )
    assert list(wording.remarks(answer))[:2] == [
        "It is the best of 2 arms on the test set, so its accuracy is a little too good.",
        "It is 4.00 points (4.00 to 4.00) more accurate than the next (noise multiplier 1, "
        "clipping norm 2, batch size 64, learning rate 0.1 and 1 epoch), paired by seed.",
    ]


def test_choosing_is_charged_for() -> None:
    # the best is that of the means over three seeds, so one run is all of their steps
    run = accounting.Run(noise_multiplier=1.0, sample_rate=64 / 1437, steps=3 * 22)
    both = accounting.epsilon_of_best([run, run], delta=1e-5)
    best = at_three(rows(3)).best
    assert best is not None
    assert best.epsilon_of_choice == pytest.approx(both)
    *_, said = wording.remarks(at_three(rows(3)))
    assert said == (
        "Its epsilon of 2.5 is that of one run; no such bound holds for the best of a fixed grid. "
        "The best of a random number of settings drawn at random, 2 on average, spends "
        f"{both:.2g} (Papernot and Steinke 2022), which does not protect the examples that it is "
        "chosen by."
    )


def test_choosing_among_shuffled_runs_is_charged_for_every_epoch_of_every_seed() -> None:
    trials = rows(3)
    private = trials["noise_multiplier"].notna()
    trials.loc[private, "sampling"] = "shuffle"
    best = at_three(trials).best
    run = accounting.Run(noise_multiplier=1.0, sample_rate=1.0, steps=3)
    assert best is not None
    assert best.epsilon_of_choice == pytest.approx(
        accounting.epsilon_of_best([run, run], delta=1e-5)
    )


def test_choosing_is_charged_at_the_least_private_of_the_runs() -> None:
    trials = rows(3)
    quiet = trials["max_grad_norm"] == 2.0
    trials.loc[quiet, "noise_multiplier"] = 2.0
    best = at_three(trials).best
    loud = accounting.Run(noise_multiplier=1.0, sample_rate=64 / 1437, steps=3 * 22)
    assert best is not None
    assert best.epsilon_of_choice == pytest.approx(
        accounting.epsilon_of_best([loud, loud], delta=1e-5)
    )


def test_choosing_has_no_price_where_the_steps_were_not_counted() -> None:
    best = at_three(rows(3).assign(sample_rate=float("nan"))).best
    assert best is not None
    assert best.epsilon_of_choice is None


def test_validation_chooses_and_test_is_reported() -> None:
    answer = at_three(rows(3, validated=True))
    assert answer.best is not None
    assert answer.best.setting.max_grad_norm == 2.0
    assert answer.best.accuracy.mean == pytest.approx(0.87)
    first, second, *_ = wording.remarks(answer)
    assert first == "It is the best of 2 arms on the validation set."
    assert "-4.00 points" in second
    assert "may be equally good" in second


def test_one_seed_has_no_interval_and_is_not_chosen_over_several() -> None:
    best = at_three(rows(1)).best
    assert best is not None
    assert math.isnan(best.accuracy.low)
    assert "it reaches 90.00 %" in wording.sentence(at_three(rows(1)))
    lucky = frame((make_trial(max_grad_norm=3.0), 1, 0.99, 2.5))
    several = pd.concat([rows(3), lucky.assign(steps=22, sample_rate=64 / 1437)])
    best = at_three(analysis.comparable(several)).best
    assert best is not None
    assert best.setting.max_grad_norm == 1.0


def test_time_is_told_of_the_arms_own_engine_and_of_opacus() -> None:
    timed = timings([2.0, 2.1, 2.2]).assign(engine="opacus-hooks", batch_size=64)
    sentence = wording.sentence(at_three(rows(2), timed))
    assert (
        "a step of that batch size takes 2.10 times as long as a non-private one by opacus-hooks "
        "(2.00 to 2.20)" in sentence
    )


def test_a_third_digit_tells_the_ends_of_an_interval_apart() -> None:
    assert wording.ratio(0.4231, 0.4212, 0.4244) == ("0.423", "0.421", "0.424")
    assert wording.ratio(0.4231, 0.4012, 0.4244) == ("0.42", "0.40", "0.42")


def test_the_baseline_says_how_it_was_chosen_and_on_what() -> None:
    trials = rows(3, validated=True)
    other = frame((make_trial("non-private", batch_size=128), 1, 0.99, None))
    assert wording.baseline(summary.baseline(trials)).startswith(
        "On digits, the best non-private setting reaches 95.00 ± 0.00 %"
    )
    both = pd.concat([trials, other.assign(validation_accuracy=0.01)])
    assert "non-private setting, of 2 chosen on the validation set, reaches" in wording.baseline(
        summary.baseline(both)
    )


def test_the_table_is_aligned_and_of_the_same_answers() -> None:
    table = wording.table(summary.answers(rows(3), NO_TIMINGS)).splitlines()
    assert table[0].split()[:2] == ["epsilon", "<="]
    assert table[1].split()[:3] == ["1", "no", "trial"]
    assert table[2].split()[:5] == ["3", "91.00", "±", "2.48", "%"]
    assert "4.00 (1.52 to 6.48)" in table[2]
    assert len(table) == 4
