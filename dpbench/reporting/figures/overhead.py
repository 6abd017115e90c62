"""What a private step costs in time and memory. No files."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dpbench.analysis import step_overhead
from dpbench.reporting.figures import parts
from dpbench.trial import ENGINES, NON_PRIVATE, TUTORIAL_ARMS

MOST_ON_LINEAR_AXIS = 12  # ratio: above it, one near 1 could not be told from 0

_MEBIBYTE = 2**20
_NAMES = (*ENGINES, *TUTORIAL_ARMS)
_OWN = [name for name in ENGINES if name != NON_PRIVATE and not name.startswith("opacus-")]
_OPACUS = [name for name in ENGINES if name.startswith("opacus-")]
_COLUMNS: Mapping[str, Sequence[str]] = {
    "dpbench's own": _OWN,
    "Opacus": _OPACUS,
    "the tutorial's loops": TUTORIAL_ARMS,
}
_STYLES: dict[str, dict[str, Any]] = {  # the same in every store
    name: {
        "color": parts.COLOURS[index % len(parts.COLOURS)],
        "marker": parts.MARKERS[index % len(parts.MARKERS)],
        "markersize": 5,
        "linestyle": ":" if name in TUTORIAL_ARMS else "-",
        "label": name,
    }
    for index, name in enumerate(_NAMES)
}
_STYLES[NON_PRIVATE] |= {"color": parts.GREY, "marker": "_", "markersize": 10, "linestyle": "--"}


def overhead_numbers(timings: pd.DataFrame) -> pd.DataFrame:
    """What `overhead` and `step_memory` draw: the overheads, the engines in order."""
    summary = step_overhead.overhead(timings)
    order = {name: index for index, name in enumerate(_NAMES)}
    return summary.sort_values(["engine", "batch_size"], key=lambda v: v.replace(order))


def overhead(timings: pd.DataFrame) -> Figure:
    """Overhead over the non-private step and examples per second, against batch size.

    A column of panels for each of dpbench's own engines, those of Opacus, and the tutorial's loops
    with their loader, dotted. Above: the median ratio of each with its interval, the median of each
    process a small dot (each pair, where all are of one process), and a line at 1, in the band of
    what the non-private step against itself gives. Below: examples per second, on a log axis, as
    the ratios are where one is far above the others. The non-private step is grey in all.

    Args:
        timings: Rows of `store.read_timings`; at least one of another engine than `non-private`.
    """
    summary = overhead_numbers(timings)
    position = _positions(summary)
    groups = _groups(summary)
    with parts.style():
        figure, panels = parts.panels(
            2 * len(groups), columns=len(groups), share_y="row", width=1.35
        )
        for index, (title, engines) in enumerate(groups.items()):
            panels[index].set_title(title)
            ratio, speed = panels[index], panels[len(groups) + index]
            for engine, shift in _shifts(engines):
                of_engine = summary[summary["engine"] == engine]
                x = [position[batch_size] + shift for batch_size in of_engine["batch_size"]]
                own = timings[timings["engine"] == engine]
                _draw_ratios(ratio, own, position, shift, _STYLES[engine])
                _draw_ratio(ratio, x, of_engine, _STYLES[engine])
                speed.plot(x, of_engine["examples_per_second"], **_STYLES[engine])
            _draw_baseline(ratio, speed, summary, position)
            for panel in (ratio, speed):
                _axes(panel, position)
            speed.set_xlabel(_where(timings))
        if summary["overhead_ratio"].max() > MOST_ON_LINEAR_AXIS:
            _log_axis(panels[0])
        else:
            panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("time of a step / non-private step")
        _log_axis(panels[len(groups)])
        panels[len(groups)].set_ylabel("examples per second")
        parts.name_lines(figure, panels)
    return figure


def step_memory(timings: pd.DataFrame) -> Figure:
    """Peak memory of a step against batch size, a line an engine, the non-private step's grey.

    Args:
        timings: Rows of `store.read_timings`; the memory of at least one engine is known.
    """
    summary = overhead_numbers(timings)
    summary = summary[summary["peak_memory_bytes"].notna()]
    position = _positions(summary)
    groups = _groups(summary) or {NON_PRIVATE: []}
    known = set(summary["engine"])
    with parts.style():
        figure, panels = parts.panels(len(groups), width=1.35)
        for panel, (title, engines) in zip(panels, groups.items(), strict=True):
            panel.set_title(title)
            for engine in (name for name in (*engines, NON_PRIVATE) if name in known):
                here = summary[summary["engine"] == engine]
                x = [position[batch_size] for batch_size in here["batch_size"]]
                # what is next to nothing stands on the axis, and is not cut by it
                panel.plot(
                    x,
                    here["peak_memory_bytes"] / _MEBIBYTE,
                    clip_on=False,
                    zorder=3,
                    **_STYLES[engine],
                )
            _axes(panel, position)
            panel.set_xlabel(_where(timings))
        panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("memory of a step (MiB)")
        parts.name_lines(figure, panels)
    return figure


def _positions(summary: pd.DataFrame) -> dict[int, int]:
    """Where on the x axis each batch size stands."""
    return {size: index for index, size in enumerate(sorted(summary["batch_size"].unique()))}


def _groups(summary: pd.DataFrame) -> dict[str, list[str]]:
    """The names of each column of panels under its title, of those that are there."""
    there = set(summary["engine"])
    groups = {title: [name for name in names if name in there] for title, names in _COLUMNS.items()}
    return {title: names for title, names in groups.items() if names}


def _shifts(engines: Sequence[str]) -> list[tuple[str, float]]:
    """Each engine with how far from its batch size it stands."""
    return [(name, 0.05 * (i - (len(engines) - 1) / 2)) for i, name in enumerate(engines)]


def _draw_ratios(
    panel: Axes,
    timings: pd.DataFrame,
    position: Mapping[int, int],
    shift: float,
    style: Mapping[str, Any],
) -> None:
    ratios = {
        position[batch_size] + shift: list(step_overhead.step_ratios(timing))
        for batch_size, timing in timings.groupby("batch_size")
    }
    panel.scatter(
        [x for x, those in ratios.items() for _ in those],
        [ratio for those in ratios.values() for ratio in those],
        s=8,
        color=style["color"],
        alpha=0.35,
        linewidths=0,
    )


def _draw_ratio(panel: Axes, x: list[float], rows: pd.DataFrame, style: Mapping[str, Any]) -> None:
    panel.errorbar(
        x,
        rows["overhead_ratio"],
        yerr=[
            rows["overhead_ratio"] - rows["overhead_ratio_low"],
            rows["overhead_ratio_high"] - rows["overhead_ratio"],
        ],
        capsize=4,
        **style,
    )


def _draw_baseline(
    ratio: Axes, speed: Axes, summary: pd.DataFrame, position: Mapping[int, int]
) -> None:
    """The non-private step in grey: 1, the band of its ratio to itself, its examples per second."""
    ratio.axhline(1, color=parts.GREY, linestyle="--", label=NON_PRIVATE)
    itself = summary[summary["engine"] == NON_PRIVATE]
    if len(itself):
        low, high = itself["overhead_ratio_low"].min(), itself["overhead_ratio_high"].max()
        ratio.axhspan(low, high, color=parts.GREY, alpha=0.15, lw=0)
    others = summary[summary["engine"] != NON_PRIVATE]
    rates = others.groupby("batch_size")["baseline_examples_per_second"].median()
    speed.plot([position[batch_size] for batch_size in rates.index], rates, **_STYLES[NON_PRIVATE])


def _axes(panel: Axes, position: Mapping[int, int]) -> None:
    panel.set_xticks(range(len(position)), [f"{size:,}" for size in position])
    panel.set_xlim(-0.5, len(position) - 0.5)


def _log_axis(panel: Axes) -> None:
    """For the panel and those that share its axis."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _where(timings: pd.DataFrame) -> str:
    return f"batch size\n({parts.names(timings['dataset'])}, {_hardware(timings)})"


def _hardware(timings: pd.DataFrame) -> str:
    """Device model and threads, for an axis title."""
    rows = timings[["device", "device_name", "threads"]].drop_duplicates()
    return parts.printable(
        ";\n".join(
            f"{row.device_name}, {row.threads} thread{'s' if row.threads > 1 else ''}"
            if row.device == "cpu"
            else str(row.device_name)
            for row in rows.itertuples()
        )
    )
