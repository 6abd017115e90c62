"""What figures of timings share: a style for each engine, columns of panels, axes."""

import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpbench import engines
from dpbench.analysis import step_overhead
from dpbench.reporting.figures import parts
from dpbench.trial import NON_PRIVATE, TUTORIAL_ARMS

_CHARACTER_POINTS = 6.5  # wide, one of size 10, but for a row of capitals

_NAMES = (*engines.names(), *TUTORIAL_ARMS)
_COLUMNS: dict[str, list[str]] = {}
for _name in engines.names():
    if _name != NON_PRIVATE:
        _COLUMNS.setdefault(engines.spec(_name).family, []).append(_name)
_COLUMNS["the tutorial's loops"] = list(TUTORIAL_ARMS)
STYLES: dict[str, dict[str, Any]] = {  # the same in every store
    name: {
        "color": parts.COLOURS[index % len(parts.COLOURS)],
        "marker": parts.MARKERS[index % len(parts.MARKERS)],
        "markersize": 5,
        "linestyle": ":" if name in TUTORIAL_ARMS else "-",
        "label": name,
    }
    for index, name in enumerate(_NAMES)
}
STYLES[NON_PRIVATE] |= {"color": parts.GREY, "marker": "_", "markersize": 10, "linestyle": "--"}


def overheads(timings: pd.DataFrame) -> pd.DataFrame:
    """The rows of `step_overhead.overhead`, the engines in order."""
    summary = step_overhead.overhead(timings)
    if summary.empty:
        return summary
    order = {name: index for index, name in enumerate(_NAMES)}
    return summary.sort_values(["engine", "batch_size"], key=lambda v: v.replace(order))


def positions(summary: pd.DataFrame) -> dict[int, int]:
    """Where on the x axis each batch size stands."""
    return {size: index for index, size in enumerate(sorted(summary["batch_size"].unique()))}


def groups(summary: pd.DataFrame) -> dict[str, list[str]]:
    """The names of each column of panels under its title, of those that are there."""
    there = set(summary["engine"])
    groups = {title: [name for name in names if name in there] for title, names in _COLUMNS.items()}
    return {title: names for title, names in groups.items() if names}


def axes(panel: Axes, position: Mapping[int, int]) -> None:
    """Sets the batch sizes along the x axis."""
    panel.set_xticks(range(len(position)), [f"{size:,}" for size in position])
    panel.set_xlim(-0.5, len(position) - 0.5)


def name_where(figure: Figure, timings: pd.DataFrame) -> None:
    """Writes model, dataset and hardware below the panels, in lines as wide as the figure."""
    task = f"{parts.names(timings['model'])} on {parts.names(timings['dataset'])}"
    width = int(figure.get_figwidth() * 72 / _CHARACTER_POINTS)
    lines = textwrap.wrap(f"{task}, {hardware(timings)}", width)
    figure.supxlabel("\n".join(lines), fontsize=10)


def hardware(timings: pd.DataFrame) -> str:
    """Names of processors or GPUs and numbers of threads, for an axis title."""
    rows = timings[["device", "device_name", "threads"]].drop_duplicates()
    return parts.printable(
        ";\n".join(
            f"{row.device_name}, {row.threads} thread{'s' if row.threads > 1 else ''}"
            if row.device == "cpu"
            else str(row.device_name)
            for row in rows.itertuples()
        )
    )
