"""What the figures share: sizes, panels, a style for each level, labels at the ends of lines."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

PANEL_INCHES = (3.4, 3.2)
COLUMNS = 3  # of panels: more, and a figure is not readable at half its width
MOST_LINES = 6  # in a panel
MOST_PANELS = 18
GREY = "0.35"
MARKERS = "osD^vPX*"
COLOURS: Sequence[Any] = [
    colour
    for colour in sns.color_palette("colorblind")
    if len(set(colour)) > 1  # grey is the non-private arm's
]

_T = TypeVar("_T")
_LABEL_POINTS = 11.0  # between two labels at the ends of lines


@contextmanager
def style() -> Iterator[None]:
    """White panels with a grid; a dollar sign in a name is a dollar sign."""
    with (
        sns.axes_style("whitegrid"),
        mpl.rc_context({"text.parse_math": False, "axes.titlesize": 10, "font.size": 10}),
    ):
        yield


def panels(
    count: int,
    *,
    columns: int = COLUMNS,
    width: float = 1.0,
    height: float = 1.0,
    share_y: bool = True,
) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, in rows of a few, each `width` by `height` of PANEL_INCHES."""
    columns = min(columns, count)
    rows = -(-count // columns)
    inches = (
        PANEL_INCHES[0] * max(columns * width, 1.6),  # room for the legend below a single panel
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


def epsilon_label(rows: pd.DataFrame) -> str:
    """Epsilon with the accountants and deltas of the rows, for an axis title."""
    words = {"prv": "PRV", "rdp": "RDP", "gaussian": "Gaussian if shuffled"}
    accountants = " or ".join(words[name] for name in words if name in set(rows["accountant"]))
    deltas = ", ".join(
        f"{delta:g}".replace("e-0", "e-") for delta in sorted(rows["delta"].unique())
    )
    return f"epsilon spent (delta {deltas})\nby {accountants}"


def epsilon_axis(panel: Axes, rows: pd.DataFrame) -> None:
    """A log axis of epsilon; the rows are what is drawn on it."""
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(epsilon_label(rows))


def label_ends(figure: Figure, panel: Axes, ends: Mapping[str, tuple[float, Any]]) -> None:
    """Writes each label, (y of its line's end, colour), right of the panel, none over another.

    Call it once the panel's limits are set and the figure is laid out.
    """
    height = panel.get_position().height * figure.get_figheight() * 72
    low, high = panel.get_ylim()
    last = float("-inf")
    for text, (y, colour) in sorted(ends.items(), key=lambda end: end[1][0]):
        own = (y - low) / (high - low) * height  # points above the panel's lower edge
        last = max(own, last + _LABEL_POINTS)
        panel.annotate(
            text,
            (1, 0),
            xycoords="axes fraction",
            xytext=(5, last),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=[0.75 * part for part in to_rgb(colour)],  # dark enough to be read
            annotation_clip=False,
        )


def legend_below(figure: Figure, handles: Sequence[Any], title: str | None = None) -> None:
    """One legend under the panels, in as many columns as the width has room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, int(figure.get_figwidth() * 72 / (45 + 6.0 * longest)))
    figure.legend(
        handles=list(handles),
        title=title,
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        frameon=False,
        fontsize=9,
        title_fontsize=9,
    )
