"""Frames of `differences` -> one figure. No files."""

import math

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpbench.analysis.comparison import changes
from dpbench.reporting.figures import parts

LINE_INCHES, WIDTH_INCHES = 0.28, 11.0
MOST_LINES = 40  # in a panel: more, and no screen holds it
_SAME, _WORSE = sns.color_palette("colorblind")[0], sns.color_palette("colorblind")[3]


def differences(
    accuracy: pd.DataFrame, overhead: pd.DataFrame, epsilon: pd.DataFrame, tolerance: float
) -> Figure:
    """What changed, a line an arm: accuracy with its interval, overhead ratio, epsilon.

    Regressions are drawn as orange diamonds. Zero is the line of no change; the grey bands are what
    is allowed. Of very many lines, the worst are drawn. A panel's title says what there is to see.

    Args:
        accuracy: Rows of `differences.accuracy`, with a text column `label`.
        overhead: Rows of `differences.overhead`, with a text column `label`.
        epsilon: Rows of `differences.epsilon`, with a text column `label`.
        tolerance: Fall of accuracy that is allowed, a fraction.
    """
    frames = accuracy, overhead, epsilon
    accuracy, overhead, epsilon = (changes.worst(frame, MOST_LINES) for frame in frames)
    lines = max(3, len(accuracy), len(overhead), len(epsilon))
    with parts.style():
        figure = Figure(
            figsize=(1.6 * WIDTH_INCHES, 1.2 + LINE_INCHES * lines), layout="constrained", dpi=100
        )
        points, ratios, epsilons = figure.subplots(1, 3)
        if len(accuracy):
            middle = 100 * accuracy["difference"]
            reach = [middle - 100 * accuracy["low"], 100 * accuracy["high"] - middle]
            _draw(points, accuracy, middle, reach)
        points.axvspan(-100 * tolerance, 0, color=parts.GREY, alpha=0.15, lw=0)
        points.set_xlabel("test accuracy, after - before (points)")
        if len(overhead):
            _draw(ratios, overhead, 100 * (overhead["growth"] - 1), None)
        ratios.set_xlabel("overhead ratio, change (%)")
        if len(epsilon):
            _draw(epsilons, epsilon, 100 * epsilon["rise"], None)
        epsilons.set_xlabel("epsilon, change (%)")
        panels, columns = (points, ratios, epsilons), ("difference", "growth", "rise")
        for panel, frame, by in zip(panels, frames, columns, strict=True):
            panel.axvline(0, color=parts.GREY, linestyle="--")
            panel.set_title(_title(frame, by))
            if frame.empty:
                panel.set_yticks([])
    return figure


def _title(frame: pd.DataFrame, by: str) -> str:
    """What there is to see in a panel, which may be that nothing changed."""
    if frame.empty:
        return "nothing to compare"
    if len(frame) > MOST_LINES:
        return f"the {MOST_LINES} worst of {len(frame):,}"
    worse = int(frame["regression"].sum())
    if worse:
        return f"{worse} of {len(frame)} got worse"
    same = (frame[by] == (1 if by == "growth" else 0)).all()
    return f"all {len(frame)} as before" if same else f"none of {len(frame)} got worse"


def _draw(
    panel: Axes,
    rows: pd.DataFrame,
    middle: "pd.Series[float]",
    reach: "list[pd.Series[float]] | None",
) -> None:
    """A line for each row, the first on top; the interval where there is one."""
    lines = pd.Series(range(len(rows)), index=rows.index)
    for worse, colour, marker in ((False, _SAME, "o"), (True, _WORSE, "D")):
        these = rows["regression"] == worse
        panel.errorbar(
            middle[these],
            lines[these],
            xerr=None if reach is None else [side[these] for side in reach],
            color=colour,
            marker=marker,
            linestyle="",
            capsize=3,
        )
    for line, value, worse in zip(lines, middle, rows["regression"], strict=True):
        if not math.isfinite(value):
            text = "infinite" if value > 0 else "none"
            panel.text(0, line, text, color=_WORSE if worse else _SAME, ha="center", va="center")
    panel.set_yticks(list(lines), [parts.printable(each) for each in rows["label"]], fontsize=8)
    panel.set_ylim(len(rows) - 0.5, -0.5)
