"""Published results in a panel: their rows, their marks, and their names beside these."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from numpy.typing import NDArray

from dpbench.analysis.statistics import half_width
from dpbench.reporting.figures import marks, parts
from dpbench.reporting.published import Published

STAR: dict[str, Any] = {"marker": "*", "markersize": 12, "markerfacecolor": "white"}
_RISES = (0, -9, 9, -16, 16)  # points that a name may lie above its point
_MARKER_PIXELS = 5  # half of a marker on a line


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
    """Writes each name beside its point, in the first place where it covers least of the lines.

    Call it when the axes have their limits and their place.
    """
    drawn = [
        panel.transData.transform(np.column_stack([line["epsilon"], 100 * line["test_accuracy"]]))
        for line in lines
    ]
    for _, point in points.iterrows():
        tried = [
            _written(panel, point, side, rise) for rise in _RISES for side in ("left", "right")
        ]
        best = min(tried, key=lambda name: _covered(name, drawn))
        for name in tried:
            if name is not best:
                name.remove()


def _written(
    panel: Axes, point: "pd.Series[Any]", aligned: Literal["left", "right"], rise: float
) -> Annotation:
    return panel.annotate(
        point["label"],
        (point["epsilon"], 100 * point["test_accuracy"]),
        xytext=(8 if aligned == "left" else -8, rise),
        textcoords="offset points",
        ha=aligned,
        va="center",
        fontsize=8.5,
        color="0.15",
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        zorder=5,
    )


def _covered(name: Annotation, lines: Sequence[NDArray[np.float64]]) -> int:
    """How much of the lines, whose ends are in pixels, the name covers: of 40 steps along it."""
    box = name.get_window_extent().padded(_MARKER_PIXELS)
    steps = np.linspace(box.x0, box.x1, 40)
    passed = [np.interp(steps, ends[:, 0], ends[:, 1], np.nan, np.nan) for ends in lines]
    return sum(int(((box.y0 < each) & (each < box.y1)).sum()) for each in passed)
