"""What a private step costs in time and memory. No files."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dpbench import analysis
from dpbench.figures import parts
from dpbench.trial import ENGINES, NON_PRIVATE, PRIVATE_ENGINES, TUTORIAL_ARMS

_MEBIBYTE = 2**20
_NAMES = (*ENGINES, *TUTORIAL_ARMS)


def overhead_numbers(timings: pd.DataFrame) -> pd.DataFrame:
    """What `overhead` and `step_memory` draw: rows of `analysis.overhead`, the engines in order."""
    summary = analysis.overhead(timings)
    order = {name: index for index, name in enumerate(_NAMES)}
    return summary.sort_values(["engine", "batch_size"], key=lambda v: v.replace(order))


def overhead(timings: pd.DataFrame) -> Figure:
    """Overhead over the non-private step and examples per second, against batch size.

    Left: the median ratio of each engine with its interval, every pair a small dot, and a line at
    1, in the band of what the non-private step against itself gives. Right: examples per second.
    The non-private step is grey in both. The engines that train privately stand in the first row;
    what is timed beside them, as the tutorial's loops with their loader, dotted in one of its own.

    Args:
        timings: Rows of `store.read_timings`; at least one of another engine than `non-private`.
    """
    summary = overhead_numbers(timings)
    position = _positions(summary)
    rows = _rows(summary)
    with parts.style():
        figure, panels = parts.panels(
            2 * len(rows), columns=2, share_y=False, width=1.4, height=1.1
        )
        for row, engines in enumerate(rows):
            ratio, speed = panels[2 * row : 2 * row + 2]
            for engine, style, shift in _styled(engines):
                of_engine = summary[summary["engine"] == engine]
                x = [position[batch_size] + shift for batch_size in of_engine["batch_size"]]
                _draw_pairs(ratio, timings[timings["engine"] == engine], position, shift, style)
                _draw_ratio(ratio, x, of_engine, style)
                speed.plot(x, of_engine["examples_per_second"], **style)
            _draw_baseline(ratio, speed, summary, position)
            _axes(ratio, "time of a step / non-private step", timings, position)
            _axes(speed, "examples per second", timings, position)
            speed.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _label(figure, panels)
    return figure


def step_memory(timings: pd.DataFrame) -> Figure:
    """Peak memory of a step against batch size, a line an engine, the non-private step's grey.

    Args:
        timings: Rows of `store.read_timings`; the memory of at least one engine is known.
    """
    summary = overhead_numbers(timings)
    summary = summary[summary["peak_memory_bytes"].notna()]
    position = _positions(summary)
    rows = _rows(summary)
    with parts.style():
        figure, panels = parts.panels(max(1, len(rows)), share_y=False, width=1.4, height=1.1)
        for panel, engines in zip(panels, rows or [[]], strict=True):
            itself = summary[summary["engine"] == NON_PRIVATE]
            for engine, style, _ in [*_styled(engines), (NON_PRIVATE, _BASELINE, 0.0)]:
                here = itself if engine == NON_PRIVATE else summary[summary["engine"] == engine]
                x = [position[batch_size] for batch_size in here["batch_size"]]
                panel.plot(x, here["peak_memory_bytes"] / _MEBIBYTE, **style)
            _axes(panel, "memory of a step (MiB)", timings, position)
        _label(figure, panels)
    return figure


_BASELINE: dict[str, Any] = {
    "color": parts.GREY,
    "linestyle": "--",
    "marker": "_",
    "markersize": 10,
    "label": NON_PRIVATE,
}


def _positions(summary: pd.DataFrame) -> dict[int, int]:
    """Where on the x axis each batch size stands."""
    return {size: index for index, size in enumerate(sorted(summary["batch_size"].unique()))}


def _rows(summary: pd.DataFrame) -> list[list[str]]:
    """The engines of each row of panels: those that train privately, then the others."""
    timed = [name for name in _NAMES if name in set(summary["engine"]) and name != NON_PRIVATE]
    private: list[str] = [name for name in timed if name in PRIVATE_ENGINES]
    others: list[str] = [name for name in timed if name not in PRIVATE_ENGINES]
    return [row for row in (private, others) if row]


def _styled(engines: Sequence[str]) -> list[tuple[str, dict[str, Any], float]]:
    """Each engine with its colour, marker and line, the tutorial's loops dotted, and its shift."""
    return [
        (
            name,
            {
                "color": parts.COLOURS[index % len(parts.COLOURS)],
                "marker": parts.MARKERS[index % len(parts.MARKERS)],
                "markersize": 5,
                "linestyle": ":" if name in TUTORIAL_ARMS else "-",
                "label": name,
            },
            0.05 * (index - (len(engines) - 1) / 2),
        )
        for index, name in enumerate(engines)
    ]


def _label(figure: Figure, panels: Sequence[Axes]) -> None:
    """Names each line at its right end."""
    figure.draw_without_rendering()  # the labels keep apart by the heights that panels then have
    for panel in panels:
        ends = {}
        labelled: list[tuple[Any, Any]] = [(line, line) for line in panel.get_lines()]
        labelled += [(bars, bars[0]) for bars in panel.containers]  # an interval's line has none
        for artist, line in labelled:
            if artist.get_label() in _NAMES and len(line.get_ydata()):
                ends[artist.get_label()] = (float(line.get_ydata()[-1]), line.get_color())
        parts.label_ends(figure, panel, ends)


def _draw_pairs(
    panel: Axes,
    pairs: pd.DataFrame,
    position: Mapping[int, int],
    shift: float,
    style: Mapping[str, Any],
) -> None:
    panel.scatter(
        [position[batch_size] + shift for batch_size in pairs["batch_size"]],
        pairs["seconds_per_step"] / pairs["baseline_seconds_per_step"],
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
    speed.plot([position[batch_size] for batch_size in rates.index], rates, **_BASELINE)


def _axes(panel: Axes, label: str, timings: pd.DataFrame, position: Mapping[int, int]) -> None:
    panel.set_ylabel(label)
    panel.set_ylim(bottom=0)
    panel.set_xticks(range(len(position)), [f"{size:,}" for size in position])
    panel.set_xlim(-0.5, len(position) - 0.5)
    panel.set_xlabel(f"batch size\n({parts.names(timings['dataset'])}, {_hardware(timings)})")


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
