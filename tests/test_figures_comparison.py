"""The drawn artists hold the frames' numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from dpbench import figures


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
    figure = figures.differences(accuracy, overhead, epsilon, 0.002)
    first, second, third = figure.axes
    assert points(first) == [pytest.approx([1.0]), pytest.approx([-5.0])]
    assert points(second) == [[], [100.0]]
    assert points(third) == [[0.0], []]
    assert [text.get_text() for text in first.get_yticklabels()] == ["a", "b"]


def test_nothing_to_draw_is_an_empty_panel() -> None:
    none = pd.DataFrame(columns=["label", "difference", "growth", "rise", "regression"])
    figure = figures.differences(none, none, none, 0.002)
    assert [points(panel) for panel in figure.axes] == [[], [], []]
