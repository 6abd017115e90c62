"""What changed between two stores: accuracies, overhead ratios, epsilons."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpbench.analysis.comparison import changes
from dpbench.reporting.figure_specs import ComparisonFrames, FigureSpec
from dpbench.reporting.figures import parts

LINE_INCHES, WIDTH_INCHES = 0.28, 11.0
MOST_LINES = 40  # in a panel: more, and no screen holds it
_CHANGES = ("difference", "growth", "rise")  # columns of accuracies, overhead ratios, epsilons
_SAME, _WORSE = parts.COLOURS[0], parts.COLOURS[3]


def numbers(frames: ComparisonFrames) -> pd.DataFrame:
    """The rows of the three frames; `compared` says of which."""
    compared = {"accuracy": frames.accuracy, "overhead": frames.overhead, "epsilon": frames.epsilon}
    rows = [rows.assign(compared=name) for name, rows in compared.items() if len(rows)]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def draw(frames: ComparisonFrames, rows: pd.DataFrame) -> Figure:
    """A line an arm or timing: accuracy with its interval, overhead ratio, epsilon.

    Regressions are drawn as orange diamonds. Zero is the line of no change; the grey bands are what
    is allowed. Of very many lines, the worst are drawn. A panel's title says what there is to see.
    """
    every = frames.accuracy, frames.overhead, frames.epsilon
    accuracy, overhead, epsilon = (changes.worst(frame, MOST_LINES) for frame in every)
    lines = max(3, len(accuracy), len(overhead), len(epsilon))
    if all(_unchanged(frame, by) for frame, by in zip(every, _CHANGES, strict=True)):
        return _nothing_changed(every)
    with parts.style():
        figure = Figure(
            figsize=(1.6 * WIDTH_INCHES, 1.2 + LINE_INCHES * lines), layout="constrained", dpi=100
        )
        points, ratios, epsilons = figure.subplots(1, 3)
        if len(accuracy):
            middle = 100 * accuracy["difference"]
            reach = [middle - 100 * accuracy["low"], 100 * accuracy["high"] - middle]
            _draw_lines(points, accuracy, middle, reach)
        points.axvspan(-100 * frames.tolerance, 0, color=parts.GREY, alpha=0.15, lw=0)
        points.set_xlabel("test accuracy, after - before (points)")
        if len(overhead):
            _draw_lines(ratios, overhead, 100 * (overhead["growth"] - 1), None)
        ratios.set_xlabel("overhead ratio, change (%)")
        if len(epsilon):
            _draw_lines(epsilons, epsilon, 100 * epsilon["rise"], None)
        epsilons.set_xlabel("epsilon, change (%)")
        for panel, frame, by in zip((points, ratios, epsilons), every, _CHANGES, strict=True):
            panel.axvline(0, color=parts.GREY, linestyle="--")
            panel.set_title(_title(frame, by))
            if frame.empty:
                panel.set_yticks([])
    return figure


def _nothing_changed(every: Sequence[pd.DataFrame]) -> Figure:
    """A sentence for each panel that would have held nothing but points at zero."""
    with parts.style():
        figure = Figure(figsize=(WIDTH_INCHES, 2.0), layout="constrained", dpi=100)
        compared = any(len(frame) for frame in every)
        figure.suptitle("Nothing changed" if compared else "Nothing to compare", fontsize=13)
        for panel, frame, by, name in zip(
            figure.subplots(1, 3),
            every,
            _CHANGES,
            ("accuracies", "overhead ratios", "epsilons"),
            strict=True,
        ):
            panel.set_title(_title(frame, by))
            panel.set_xticks([])
            panel.set_yticks([])
            panel.text(0.5, 0.5, name, transform=panel.transAxes, ha="center", va="center")
    return figure


def _unchanged(frame: pd.DataFrame, by: str) -> bool:
    """Whether the panel would hold nothing but points at zero."""
    if frame.empty:
        return True
    return not frame["regression"].any() and bool((frame[by] == (1 if by == "growth" else 0)).all())


def _title(frame: pd.DataFrame, by: str) -> str:
    """What there is to see in a panel, which may be that nothing changed."""
    if frame.empty:
        return "nothing to compare"
    if len(frame) > MOST_LINES:
        return f"the {MOST_LINES} worst of {len(frame):,}"
    worse = int(frame["regression"].sum())
    if worse:
        return f"{worse} of {len(frame)} got worse"
    if _unchanged(frame, by):
        return f"all {len(frame)} as before"
    return f"none of {len(frame)} got worse"


def _draw_lines(
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


def alternative(frames: ComparisonFrames, rows: pd.DataFrame) -> str:
    """How many lines got worse."""
    every = zip((frames.accuracy, frames.overhead, frames.epsilon), _CHANGES, strict=True)
    if all(_unchanged(frame, by) for frame, by in every):
        return f"None of {len(rows)} differs."
    return f"{int(rows['regression'].sum())} of {len(rows)} differences are regressions."


SPEC = FigureSpec(
    order=10,
    frames=ComparisonFrames,
    title="Differences",
    caption="Changes of test accuracy with their 95 % t intervals, of overhead ratios and of "
    "epsilons. Orange diamonds are regressions; the grey band is what is allowed.",
    missing="Nothing to compare.",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=lambda frames, rows: (),
)
