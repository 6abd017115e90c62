"""What the figures share: sizes, panels, a style for each level, labels at the ends of lines."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from dpbench import strings
from dpbench.analysis import trial_rows
from dpbench.privacy.budgets import ANSWER_AT
from dpbench.reporting import quantities

PANEL_INCHES = (3.2, 3.1)
COLUMNS = 3  # of panels: more, and a figure is not readable at half its width
MOST_LINES = 6  # in a panel
GREY = "0.35"
MARKERS = "osD^vPX*"
COLOURS: Sequence[Any] = (  # seaborn's `colorblind`; the others of it are too pale on white
    *("#0173b2", "#de8f05", "#029e73"),
    *("#d55e00", "#cc78bc", "#ca9161"),
)

_T = TypeVar("_T")
_LABEL_POINTS = 11.0  # between two labels at the ends of lines
_TICKS = sorted({part * 10.0**power for power in range(-9, 16) for part in (1, 3)} | {*ANSWER_AT})
_MOST_DECADES = 6  # that an axis of epsilon names
_LEAST_GAP = 0.12  # between two ticks, of the axis of a small panel
_LEAST_SPAN = 10.0  # points of accuracy below the best that are always drawn


@contextmanager
def style() -> Iterator[None]:
    """White panels with a grid; a dollar sign in a name is a dollar sign."""
    import seaborn as sns  # takes half a second, which only what draws spends

    own: Any = {"text.parse_math": False, "axes.titlesize": 11, "font.size": 11}
    with sns.axes_style("whitegrid"), mpl.rc_context(own):
        yield


def panels(
    count: int,
    *,
    columns: int = COLUMNS,
    width: float = 1.0,
    height: float = 1.0,
    share_y: bool | Literal["row"] = True,
) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, in rows of a few, each `width` by `height` of PANEL_INCHES."""
    columns = min(columns, count)
    rows = -(-count // columns)
    inches = (
        PANEL_INCHES[0] * max(columns * width, 1.8),  # room for the legend beside a single panel
        PANEL_INCHES[1] * height * rows + 0.5,
    )
    figure = Figure(figsize=inches, layout="constrained", dpi=150)
    every = list(figure.subplots(rows, columns, sharey=share_y, squeeze=False).flat)
    for unused in every[count:]:
        unused.remove()
    return figure, every[:count]


def few(values: Sequence[_T], most: int) -> list[_T]:
    """At most so many of the values: the first, the last, and those evenly between them."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]


def levels(values: "pd.Series[float]", styles: Sequence[_T]) -> dict[float, _T]:
    """A style for each value, in the values' order."""
    levels = sorted(values.unique())
    return {level: styles[index % len(styles)] for index, level in enumerate(levels)}


def names(datasets: "pd.Series[str]") -> str:
    """The datasets' names, for an axis title; without characters that no image can hold."""
    return printable(", ".join(sorted(datasets.unique())))


def printable(text: str) -> str:
    """The text without the characters that no image can hold; line ends stay."""
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def on_log_axis(trials: pd.DataFrame) -> pd.DataFrame:
    """The private rows that hold a measurement at an epsilon above 0, and finite."""
    rows = trial_rows.private(trial_rows.ok(trials))
    return rows[(rows["epsilon"] > 0) & (rows["epsilon"] < float("inf"))]


def epsilon_label(rows: pd.DataFrame) -> str:
    """Epsilon with the accountants and deltas of the rows, for an axis title."""
    words = {"pld": "PLD", "prv": "PRV", "rdp": "RDP", "gaussian": "Gaussian if shuffled"}
    accountants = " or ".join(words[name] for name in words if name in set(rows["accountant"]))
    deltas = ", ".join(quantities.short(delta) for delta in sorted(rows["delta"].unique()))
    return f"epsilon spent (delta {deltas})\nby {accountants}"


def epsilon_axis(
    panel: Axes,
    rows: pd.DataFrame,
    least: float,
    most: float,
    at: Sequence[float] = ANSWER_AT,
    *,
    gap: float = _LEAST_GAP,
) -> None:
    """A log axis of epsilon that ends at ticks beyond the least and the most.

    Args:
        panel: Where.
        rows: Of `arm_means.over_seeds`, for the axis' title.
        least: Epsilon of all that is drawn, so that panels of one figure have one axis; > 0.
        most: As `least`.
        at: Epsilons that are answered for: marked.
        gap: The least between two ticks, as a part of the axis.
    """
    low = max((tick for tick in _TICKS if tick < least), default=least)
    high = min((tick for tick in _TICKS if tick > most), default=most)
    ticks = _epsilon_ticks(0.8 * low, 1.25 * high, at, gap)
    panel.set_xscale("log")
    panel.set_xlim(0.8 * low, 1.25 * high)
    panel.set_xticks(ticks, [_epsilon_text(tick) for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(epsilon_label(rows))
    for epsilon in at:
        if low <= epsilon <= high:
            panel.axvline(epsilon, color="0.6", linestyle=(0, (1, 2)), linewidth=1.2, zorder=0.6)


def _epsilon_ticks(low: float, high: float, at: Sequence[float], gap: float) -> list[float]:
    """As many as can be read: powers of ten, what is answered for, and powers of ten times 3."""
    span = math.log10(high / low)
    decades = [power for power in range(-12, 16) if low <= 10.0**power <= high]
    every = max(1, math.ceil(len(decades) / _MOST_DECADES))
    wanted = [10.0**power for power in decades if power % every == 0]
    if every == 1:
        wanted = [*at, *wanted, *_TICKS]
    ticks: list[float] = []
    for tick in wanted:
        if low <= tick <= high and all(
            abs(math.log10(tick / other)) >= gap * span for other in ticks
        ):
            ticks.append(tick)
    return sorted(ticks)


def _epsilon_text(tick: float) -> str:
    """The tick's number: 0.001, 30, 10,000, 1e6."""
    if 1e-3 <= tick < 1e5:
        return f"{tick:,g}"
    return quantities.short(tick)


def floor(accuracies: "pd.Series[float]") -> float:
    """In percent, where an axis may begin: what decides lies above it.

    The better half of the accuracies, as much below it again as it spans, and at least ten points.
    """
    percents = 100 * accuracies
    best, median = percents.max(), percents.median()
    return float(min(best - _LEAST_SPAN, 2 * median - best))


def percent_axis(
    panels: Sequence[Axes], drawn: "Sequence[pd.Series[float]]" = (), what: str = "marker"
) -> None:
    """No accuracy below 0 % or far above 100; some height where there is no spread, and at the top.

    Args:
        panels: That share their y axis.
        drawn: Accuracies in each panel. The axis begins above those that are far below the others,
            and the title of the x axis, which is set, says how many these are.
        what: One of them is.
    """
    low, high = panels[0].get_ylim()
    low, high = max(0.0, min(low, high - 2)), min(100.0, max(high, low + 2))
    if drawn:
        low = max(low, floor(pd.concat(list(drawn))))
    margin = 0.08 * (high - low)  # of a text over the highest line
    panels[0].set_ylim(low - margin / 4, high + margin)
    for panel, accuracies in zip(panels, drawn, strict=bool(drawn)):
        hidden = accuracies[100 * accuracies < low - margin / 4]
        if len(hidden):
            counted = strings.counted(len(hidden), what)
            below = f"(below: {counted}, to {100 * hidden.min():.1f} %)"
            panel.set_xlabel(f"{panel.get_xlabel()}\n{below}")


def loss_axis(panels: Sequence[Axes], drawn: "Sequence[pd.Series[float]]") -> None:
    """Points lost, up to what decides: the smaller half, mirrored as `floor` has it.

    Args:
        panels: That share their y axis. The title of each x axis, which is set, says how many
            markers lie above.
        drawn: Points lost in each panel.
    """
    most = 100 - floor(1 - pd.concat(list(drawn)) / 100)
    low, high = panels[0].get_ylim()
    high = min(high, most)
    panels[0].set_ylim(low, high)
    for panel, lost in zip(panels, drawn, strict=True):
        hidden = lost[lost > high]
        if len(hidden):
            above = f"(above: {strings.counted(len(hidden), 'marker')}, to {hidden.max():.1f})"
            panel.set_xlabel(f"{panel.get_xlabel()}\n{above}")


def label_point(
    panel: Axes, text: str, at: tuple[float, float], away: tuple[float, float], colour: Any = "0.2"
) -> None:
    """Writes a small text so many points away from below a point, readable over a line."""
    panel.annotate(
        text,
        at,
        xytext=away,
        textcoords="offset points",
        va="top",
        ha="left" if away[0] else "center",
        fontsize=8.5,
        color=[0.75 * part for part in to_rgb(colour)],  # dark enough to be read
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        zorder=5,
    )


def name_lines(figure: Figure, panels: Sequence[Axes]) -> None:
    """Writes each line's name right of its panel, at the height of its end, none over another.

    That of a line which leaves the panel stands at its edge. Call it last: names keep apart by the
    heights that the panels then have.
    """
    figure.draw_without_rendering()
    for panel in panels:
        named: list[tuple[Any, Any]] = [(line, line) for line in panel.get_lines()]
        named += [(bars, bars[0]) for bars in panel.containers]  # an interval's line has no name
        ends = [
            (panel.transData.transform((0, line.get_ydata()[-1]))[1], str(named.get_label()), line)
            for named, line in named
            if not str(named.get_label()).startswith("_") and len(line.get_ydata())
        ]
        inner = panel.get_window_extent()
        last = float("-inf")
        for y, name, line in sorted(ends, key=lambda end: end[:2]):
            own = (min(y, inner.y1) - inner.y0) * 72 / figure.dpi  # points above its lower edge
            last = max(own, last + _LABEL_POINTS)
            panel.annotate(
                name,
                (1, 0),
                xycoords="axes fraction",
                xytext=(5, last),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=[0.75 * part for part in to_rgb(line.get_color())],  # dark enough to be read
                annotation_clip=False,
            )


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend: under the panels, in as many columns as there is room for; or beside the one."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    alone = len(figure.axes) == 1
    columns = max(1, int(figure.get_figwidth() * 72 / (45 + 6.0 * longest)))
    figure.legend(
        handles=list(handles),
        loc="outside right upper" if alone else "outside lower center",
        ncols=1 if alone else min(columns, len(handles)),
        frameon=False,
        fontsize=9.5,
    )
