"""The drawn artists hold the frames' numbers."""

import math

import artists
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from dpbench.reporting.figure_specs import ComparisonFrames
from dpbench.reporting.figures.differences import MOST_LINES


def differences(accuracy: pd.DataFrame, overhead: pd.DataFrame, epsilon: pd.DataFrame) -> Figure:
    frames = ComparisonFrames(
        accuracy=accuracy, overhead=overhead, epsilon=epsilon, tolerance=0.002
    )
    return artists.draw("differences", frames)


def points(panel: Axes) -> list[list[float]]:
    """x of the points, no regressions first."""
    drawn = [each for each in panel.containers if isinstance(each, ErrorbarContainer)]
    return [np.asarray(each.lines[0].get_xdata()).tolist() for each in drawn]


def test_regressions_are_set_apart_in_every_panel() -> None:
    accuracy = pd.DataFrame(
        {
            "label": ["a", "b"],
            "difference": [0.01, -0.05],
            "low": [0.0, -0.06],
            "high": [0.02, -0.04],
            "regression": [False, True],
        }
    )
    overhead = pd.DataFrame({"label": ["c"], "growth": [2.0], "regression": [True]})
    epsilon = pd.DataFrame({"label": ["d"], "rise": [0.0], "regression": [False]})
    figure = differences(accuracy, overhead, epsilon)
    first, second, third = figure.axes
    assert points(first) == [pytest.approx([1.0]), pytest.approx([-5.0])]
    assert points(second) == [[], [100.0]]
    assert points(third) == [[0.0], []]
    assert [text.get_text() for text in first.get_yticklabels()] == ["a", "b"]


def test_nothing_to_draw_is_an_empty_panel() -> None:
    none = pd.DataFrame(columns=["label", "difference", "growth", "rise", "regression"])
    figure = differences(none, none, none)
    assert [points(panel) for panel in figure.axes] == [[], [], []]
    assert [panel.get_title() for panel in figure.axes] == ["nothing to compare"] * 3


def test_a_panel_says_whether_anything_changed() -> None:
    none = pd.DataFrame(columns=["label", "difference", "growth", "rise", "regression"])
    for growth, regression, title in (
        ([1.0, 1.0], [False, False], "all 2 as before"),
        ([1.0, 1.1], [False, False], "none of 2 got worse"),
        ([1.0, 3.0], [False, True], "1 of 2 got worse"),
    ):
        overhead = pd.DataFrame({"label": ["a", "b"], "growth": growth, "regression": regression})
        panel = differences(none, overhead, none).axes[1]
        assert panel.get_title() == title


def test_where_nothing_changed_the_figure_says_so() -> None:
    accuracy = pd.DataFrame(
        {"label": ["a"], "difference": [0.0], "low": [0.0], "high": [0.0], "regression": [False]}
    )
    overhead = pd.DataFrame({"label": ["c"], "growth": [1.0], "regression": [False]})
    epsilon = pd.DataFrame({"label": ["d"], "rise": [0.0], "regression": [False]})
    same = differences(accuracy, overhead, epsilon)
    assert same.get_suptitle() == "Nothing changed"
    assert [panel.get_title() for panel in same.axes] == ["all 1 as before"] * 3
    moved = differences(accuracy.assign(difference=0.01, high=0.02), overhead, epsilon)
    assert moved.get_suptitle() == ""
    assert points(moved.axes[0]) == [[pytest.approx(1.0)], []]


def test_of_very_many_arms_the_worst_are_drawn() -> None:
    """All of them were more pixels than an image can hold."""
    many = 5_000
    epsilon = pd.DataFrame(
        {
            "label": [f"arm {index}" for index in range(many)],
            "rise": [index / many for index in range(many)],
            "regression": [index < 2 for index in range(many)],
        }
    )
    none = pd.DataFrame(columns=["label", "regression"])
    figure = differences(none, none, epsilon)
    panel = figure.axes[2]
    assert figure.get_figheight() < 15
    assert len(points(panel)[1]) == 2  # the regressions
    assert [text.get_text() for text in panel.get_yticklabels()][-1] == "arm 4999"
    assert panel.get_title() == f"the {MOST_LINES} worst of 5,000"


def test_what_has_no_place_on_the_axis_is_written() -> None:
    epsilon = pd.DataFrame(
        {"label": ["a", "$b$"], "rise": [math.inf, math.nan], "regression": [True, True]}
    )
    none = pd.DataFrame(columns=["label", "regression"])
    panel = differences(none, none, epsilon).axes[2]
    assert [text.get_text() for text in panel.texts] == ["infinite", "none"]
