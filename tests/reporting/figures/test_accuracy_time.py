"""The lines rise where a setting reaches more within a longer time."""

import artists
import pandas as pd
import pytest
from artists import lines
from factories import frame, make_trial

from dpbench.reporting.figure_specs import TrialFrames
from dpbench.reporting.figures.accuracy_time import SPEC


def frames() -> TrialFrames:
    """Steps of 64 examples take 10 ms, those of 128 take 40 ms; 22 steps an epoch."""
    fast = make_trial(epochs=2)
    slow = make_trial(batch_size=128, epochs=2)
    worse = make_trial(batch_size=128, max_grad_norm=2.0, epochs=2)
    trials = frame(
        (fast, 1, 0.7, 1.0),
        (fast, 2, 0.8, 2.0),
        (slow, 1, 0.75, 0.5),
        (slow, 2, 0.9, 4.0),
        (worse, 1, 0.6, 0.5),
        (make_trial("non-private", epochs=1), 1, 0.95, None),
    )
    made = artists.of_trials(trials.assign(steps=22 * trials["epoch"]), at=[1.0, 3.0])
    seconds = made.timings["batch_size"].map({64: 0.01, 128: 0.04})
    timed = made.timings.assign(seconds_per_step=seconds)
    return TrialFrames(trials=made.trials, timings=timed, answers=made.answers)


def test_each_line_is_the_best_within_its_epsilon_and_the_time() -> None:
    points = artists.numbers("accuracy_time", frames())
    seen = {
        name: list(zip(line["seconds"].round(9), line["test_accuracy"], strict=True))
        for name, line in points.groupby("line", sort=False)
    }
    assert seen == {
        "epsilon <= 1": [(0.22, 0.7), (0.88, 0.75)],
        "epsilon <= 3": [(0.22, 0.7), (0.44, 0.8)],
        "non-private": [(0.22, 0.95)],
    }


def test_lines_go_on_to_the_longest_time_and_bear_their_names() -> None:
    (panel,) = artists.draw("accuracy_time", frames()).axes
    assert ([0.22, 0.44, 0.88], pytest.approx([70.0, 80.0, 80.0])) in [
        ([round(x, 9) for x in xs], ys) for xs, ys in lines(panel)
    ]
    assert {text.get_text() for text in panel.texts} == {
        "epsilon <= 1",
        "epsilon <= 3",
        "non-private",
    }
    assert "a processor" in panel.get_xlabel()


def test_what_was_not_timed_is_left_out_and_said() -> None:
    whole = frames()
    timed = whole.timings[whole.timings["batch_size"] == 64]
    left = TrialFrames(trials=whole.trials, timings=timed, answers=whole.answers)

    points = SPEC.numbers(left)
    assert set(points["batch_size"]) == {64}
    assert any(note.startswith("1 of 3 kinds of steps") for note in SPEC.notes(left, points))
    none = TrialFrames(trials=whole.trials, timings=timed.iloc[:0], answers=whole.answers)
    pd.testing.assert_frame_equal(SPEC.numbers(none), pd.DataFrame())


def test_a_step_by_another_optimizer_was_not_timed() -> None:
    whole = frames()
    adam = whole.trials["max_grad_norm"] == 2.0
    assert adam.any()
    trials = whole.trials.assign(optimizer=whole.trials["optimizer"].mask(adam, "adam"))
    left = TrialFrames(trials=trials, timings=whole.timings, answers=whole.answers)
    points = SPEC.numbers(left)
    assert set(points["optimizer"]) == {"sgd"}
    assert any(note.startswith("1 of 4 kinds of steps") for note in SPEC.notes(left, points))
