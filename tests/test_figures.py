"""The drawn artists hold the frame's numbers."""

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_trial
from matplotlib.axes import Axes
from test_analysis import frame

from dpbench import figures
from dpbench.figures import parts
from dpbench.trial import Trial


def privacy_frame(seeds: int = 1) -> pd.DataFrame:
    measured: list[tuple[Trial, int, float, float | None]] = []
    for seed in range(seeds):
        for batch_size in (64, 128):
            baseline = make_trial("non-private", batch_size=batch_size, seed=seed, epochs=2)
            measured += [(baseline, 1, 0.90, None), (baseline, 2, 0.95 + 0.01 * seed, None)]
            for noise, epsilon in ((1.0, 4.0), (2.0, 1.0), (0.0, float("inf"))):
                trial = make_trial(
                    noise_multiplier=noise, batch_size=batch_size, seed=seed, epochs=2
                )
                accuracy = 0.8 - 0.1 * noise + 0.02 * seed
                measured += [(trial, 1, accuracy, epsilon / 2), (trial, 2, accuracy, epsilon)]
    return frame(*measured)


def lines(panel: Axes) -> list[Any]:
    """(x, y) of every line."""
    return [
        (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in panel.get_lines()
    ]


def markers(panel: Axes) -> list[Any]:
    """(epsilon, percent) of every arm's marker."""
    return [
        (float(np.asarray(line.get_xdata())[0]), float(np.asarray(line.get_ydata())[0]))
        for line in panel.get_lines()
        if str(line.get_marker()) in parts.MARKERS and len(np.asarray(line.get_xdata())) == 1
    ]


def test_privacy_accuracy_marks_the_end_of_every_arm_and_no_infinite_epsilon() -> None:
    figure = figures.privacy_accuracy(privacy_frame())
    assert [panel.get_title() for panel in figure.axes] == ["batch size 64", "batch size 128"]
    for panel in figure.axes:
        assert sorted(markers(panel)) == [
            (1.0, pytest.approx(60.0)),
            (4.0, pytest.approx(70.0)),
        ]
        # the frontier, over all epochs, as far as any arm has spent
        assert ([0.5, 2.0, 4.0], pytest.approx([60.0, 70.0, 70.0])) in lines(panel)
        assert panel.get_xscale() == "log"
        assert panel.get_xlabel() == "epsilon spent (delta 1e-5)\nby PRV"
        low, high = panel.get_xlim()
        assert low < 0.5
        assert high > 4.0


def test_learning_curves_draw_every_epoch_a_panel_for_each_noise() -> None:
    figure = figures.learning_curves(privacy_frame())
    assert [panel.get_title() for panel in figure.axes] == [
        f"batch size {size}, noise {noise}" for noise in (1, 2) for size in (64, 128)
    ]
    assert ([2.0, 4.0], pytest.approx([70.0, 70.0])) in lines(figure.axes[0])
    assert ([0.5, 1.0], pytest.approx([60.0, 60.0])) in lines(figure.axes[2])


def test_cells_hold_the_accuracies_as_text() -> None:
    figure = figures.accuracy_cells(privacy_frame())
    for panel in figure.axes:
        assert [text.get_text() for text in panel.texts] == ["80.0", "70.0", "60.0"]


def many_levels() -> pd.DataFrame:
    return frame(
        *(
            (make_trial(noise_multiplier=1 + n / 10, max_grad_norm=clip + 1.0), 1, 0.5, 9.0 - n / 9)
            for n in range(20)
            for clip in range(10)
        )
    )


def test_no_panel_holds_more_than_six_lines() -> None:
    every = many_levels()
    for panel in figures.learning_curves(every).axes:
        assert len(panel.get_lines()) == parts.MOST_LINES
    assert len(figures.learning_curves(every).axes) <= parts.MOST_PANELS
    numbers = figures.privacy_accuracy_numbers(every)
    assert numbers["noise_multiplier"].nunique() <= len(parts.MARKERS)
    assert {1.0, 2.9} <= set(numbers["noise_multiplier"])  # the first and the last are kept


def test_of_several_learning_rates_the_best_is_drawn() -> None:
    trials = frame(
        (make_trial(learning_rate=0.1), 1, 0.8, 2.0), (make_trial(learning_rate=0.2), 1, 0.9, 2.0)
    )
    assert markers(figures.privacy_accuracy(trials).axes[0]) == [(2.0, pytest.approx(90.0))]
    assert [text.get_text() for text in figures.accuracy_cells(trials).axes[0].texts] == ["90.0"]


def test_a_dollar_sign_and_control_characters_are_drawn_as_text() -> None:
    hostile = privacy_frame().assign(dataset="a$\\frac$\x00b")
    figure = figures.privacy_accuracy(hostile)
    assert "?b" in figure.axes[0].get_ylabel()
    figure.savefig(io.BytesIO(), format="svg")


def test_the_baseline_is_a_labelled_line_and_the_dataset_on_the_axis() -> None:
    figure = figures.privacy_accuracy(privacy_frame())
    panel = figure.axes[0]
    assert "digits" in panel.get_ylabel()
    assert [text.get_text() for text in panel.texts] == ["non-private 95.0 %"]
    assert ([0.0, 1.0], pytest.approx([95.0, 95.0])) in lines(panel)


def test_with_one_seed_there_is_no_bar_and_with_three_there_are_bars_and_dots() -> None:
    def drawn(seeds: int) -> tuple[int, int]:
        panel = figures.privacy_accuracy(privacy_frame(seeds)).axes[0]
        dots = [line for line in panel.get_lines() if line.get_marker() == "."]
        return len(panel.containers), sum(len(np.asarray(dot.get_xdata())) for dot in dots)

    assert drawn(1) == (0, 0)
    assert drawn(3) == (2, 2 * 3)


def test_a_learning_curve_of_one_seed_has_no_band() -> None:
    assert not figures.learning_curves(privacy_frame(1)).axes[0].collections
    assert len(figures.learning_curves(privacy_frame(3)).axes[0].collections) == 1


def test_shuffled_arms_show_the_gap_to_what_is_quoted_for_them() -> None:
    shuffled = make_trial(sampling="shuffle", epochs=1)
    rows = frame((shuffled, 1, 0.8, 5.0), (make_trial(epochs=1), 1, 0.8, 2.0))
    rows.loc[rows["sampling"] == "shuffle", ["accountant", "epsilon_if_poisson"]] = [
        "gaussian",
        2.0,
    ]
    (panel,) = figures.privacy_accuracy(rows).axes
    gap = [line for line in panel.get_lines() if line.get_linestyle() == ":"]
    assert [list(np.asarray(line.get_xdata())) for line in gap] == [[2.0, 5.0]]
    assert panel.get_xlabel() == "epsilon spent (delta 1e-5)\nby PRV or Gaussian if shuffled"
    # without shuffled batches, neither the line nor its words
    (legend,) = figures.privacy_accuracy(privacy_frame()).legends
    assert "quoted as if Poisson" not in [text.get_text() for text in legend.get_texts()]


def test_accuracy_loss_starts_at_what_clipping_alone_loses() -> None:
    figure = figures.accuracy_loss(privacy_frame(seeds=3))
    assert [panel.get_title() for panel in figure.axes] == ["batch size 64", "batch size 128"]
    # baseline 95, 96, 97; clip only 80, 82, 84; noise takes 10 points more for each 1
    expected = ([0.0, 1.0, 2.0], pytest.approx([14.0, 24.0, 34.0]))
    assert expected in lines(figure.axes[0])
    (container,) = figure.axes[0].containers
    bars = container[2][0].get_segments()  # t(0.975, 2) s / sqrt(3), s of -15, -14, -13
    assert bars[0][1][1] - bars[0][0][1] == pytest.approx(2 * 4.30265 / 3**0.5)
