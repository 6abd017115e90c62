"""The drawn artists hold the frame's numbers."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_trial
from matplotlib.axes import Axes
from test_analysis import frame, timings

from dpbench import figures
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


def test_privacy_accuracy_draws_every_arm_and_no_infinite_epsilon() -> None:
    figure = figures.privacy_accuracy(privacy_frame())
    assert [panel.get_title() for panel in figure.axes] == ["batch size 64", "batch size 128"]
    for panel in figure.axes:
        drawn = lines(panel)
        assert ([2.0, 4.0], pytest.approx([70.0, 70.0])) in drawn
        assert ([0.5, 1.0], pytest.approx([60.0, 60.0])) in drawn
        assert all(np.isfinite(x).all() for x, _ in drawn)
        assert panel.get_xscale() == "log"
        assert panel.get_xlabel() == "epsilon spent (PRV, delta 1e-5)"


def test_the_baseline_is_a_labelled_line_and_the_dataset_on_the_axis() -> None:
    figure = figures.privacy_accuracy(privacy_frame())
    panel = figure.axes[0]
    assert "digits" in panel.get_ylabel()
    assert [text.get_text() for text in panel.texts] == ["non-private 95.0 %"]
    assert ([0.0, 1.0], pytest.approx([95.0, 95.0])) in lines(panel)


def test_with_one_seed_there_is_no_band_and_with_three_there_is() -> None:
    def bands(seeds: int) -> int:
        figure = figures.privacy_accuracy(privacy_frame(seeds))
        return sum(len(panel.collections) for panel in figure.axes)

    assert bands(1) == 0
    assert bands(3) == 2 * (2 + 1)  # in each panel a band for each arm, and the seeds' dots


def test_overhead_draws_every_pair_and_a_line_at_one() -> None:
    rows = timings([3, 1, 2, 9, 2.5, 2.2, 2.1, 2.3, 2.4]).assign(
        dataset="digits", device_name="a processor", threads=1
    )
    ratio, speed = figures.overhead(rows).axes
    (dots, *_) = ratio.collections
    assert sorted(np.asarray(dots.get_offsets())[:, 1]) == pytest.approx(
        [1, 2, 2.1, 2.2, 2.3, 2.4, 2.5, 3, 9]
    )
    assert ([0.0, 1.0], [1.0, 1.0]) in lines(ratio)
    assert ([0.0], pytest.approx([2.3])) in lines(ratio)
    assert "a processor, 1 thread" in ratio.get_xlabel()
    assert ([0.0], pytest.approx([6400.0])) in lines(speed)
