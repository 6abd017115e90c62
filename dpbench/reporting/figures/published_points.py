"""Published results in a panel: their rows, their marks, and their names beside these."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from dpbench.analysis.statistics import half_width
from dpbench.reporting.figures import marks, parts
from dpbench.reporting.published import Published

STAR: dict[str, Any] = {"marker": "*", "markersize": 12, "markerfacecolor": "white"}
_NAME_POINTS = {"away": 9.0, "letter": 4.7, "height": 9.0}  # of a name beside its point


def row(result: Published) -> dict[str, Any]:
    """The row of the result, with the t interval of its mean where it is known."""
    accuracy = result.accuracy / 100
    half = float("nan")
    if result.runs is not None and result.deviation is not None:
        half = half_width(result.deviation / 100, result.runs)
    shared = {
        name: getattr(result, name)
        for name in (
            *("dataset", "model", "batch_size", "learning_rate", "momentum", "noise_multiplier"),
            *("max_grad_norm", "epochs", "delta", "steps", "sample_rate", "epsilon"),
        )
    }
    return shared | {
        "sampling": "shuffle",
        "epoch": result.epochs,
        "test_accuracy": accuracy,
        "low": accuracy - half,
        "high": accuracy + half,
        "seeds": result.runs,
        "accountant": "pld",
        "label": result.name,
        "kind": "published",
    }


def draw(panel: Axes, points: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> None:
    """Hollow stars, of the colour of their model where that is drawn, each with its name."""
    for _, point in points.iterrows():
        colour = styles.get(point["model"], {"color": parts.GREY})["color"]
        x, y = point["epsilon"], 100 * point["test_accuracy"]
        marks.draw_bars(panel, point.to_frame().T, colour)
        panel.plot(x, y, markeredgecolor=colour, markeredgewidth=1.4, zorder=3.6, **STAR)


def name(panel: Axes, points: pd.DataFrame, lines: Sequence[pd.DataFrame]) -> None:
    """Writes each name right of its point, or left where it would cover less of the lines.

    Call it when the axes have their limits.
    """
    for _, point in points.iterrows():
        at = (point["epsilon"], 100 * point["test_accuracy"])
        left = _covered(panel, point["label"], at, lines, -1) < _covered(
            panel, point["label"], at, lines, 1
        )
        panel.annotate(
            point["label"],
            at,
            xytext=(-8 if left else 8, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8.5,
            color="0.15",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=5,
        )


def _covered(
    panel: Axes,
    name: str,
    at: tuple[float, float],
    lines: Sequence[pd.DataFrame],
    side: Literal[-1, 1],
) -> int:
    """How much of the lines a name on that side of its point covers, in steps along it."""
    figure = panel.get_figure()
    assert figure is not None
    dots = figure.dpi / 72  # a point
    x, y = panel.transData.transform(at)
    near = _NAME_POINTS["away"]
    steps = np.linspace(near, near + _NAME_POINTS["letter"] * len(name), 20)
    covered = 0
    for line in lines:
        ends = panel.transData.transform(
            np.column_stack([line["epsilon"], 100 * line["test_accuracy"]])
        )
        passed = np.interp(x + side * dots * steps, ends[:, 0], ends[:, 1], np.nan, np.nan)
        covered += int((abs(passed - y) < dots * _NAME_POINTS["height"]).sum())
    return covered
