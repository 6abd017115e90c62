"""What a private step costs in time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dpbench.analysis import step_overhead
from dpbench.reporting import timing_caveats
from dpbench.reporting.figure_specs import FigureSpec, TimingFrames
from dpbench.reporting.figures import engine_lines, parts
from dpbench.trial import NON_PRIVATE

MOST_ON_LINEAR_AXIS = 12  # ratio: above it, one near 1 could not be told from 0


def numbers(frames: TimingFrames) -> pd.DataFrame:
    """The rows of `step_overhead.overhead`; none where the non-private step alone was timed."""
    summary = engine_lines.overheads(frames.timings)
    return summary if (frames.timings["engine"] != NON_PRIVATE).any() else summary.iloc[:0]


def draw(frames: TimingFrames, summary: pd.DataFrame) -> Figure:
    """Overhead over the non-private step and examples per second, against batch size.

    A column of panels for each of dpbench's own engines, those of Opacus, and the tutorial's loops
    with their loader, dotted. Above: the median ratio of each with its interval, the median of each
    process a small dot (each pair, where all are of one process), and a line at 1, in the band of
    what the non-private step against itself gives. Below: examples per second, on a log axis, as
    the ratios are where one is far above the others. The non-private step is grey in all.
    """
    timings = frames.timings
    position = engine_lines.positions(summary)
    groups = engine_lines.groups(summary)
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
                _draw_ratios(ratio, own, position, shift, engine_lines.STYLES[engine])
                _draw_ratio(ratio, x, of_engine, engine_lines.STYLES[engine])
                speed.plot(x, of_engine["examples_per_second"], **engine_lines.STYLES[engine])
            _draw_baseline(ratio, speed, summary, position)
            for panel in (ratio, speed):
                engine_lines.axes(panel, position)
            speed.set_xlabel("batch size")
        if summary["overhead_ratio"].max() > MOST_ON_LINEAR_AXIS:
            _log_axis(panels[0])
        else:
            panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("time of a step / non-private step")
        _log_axis(panels[len(groups)])
        panels[len(groups)].set_ylabel("examples per second")
        engine_lines.name_where(figure, timings)
        parts.name_lines(figure, panels)
    return figure


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
    speed.plot(
        [position[batch_size] for batch_size in rates.index],
        rates,
        **engine_lines.STYLES[NON_PRIVATE],
    )


def _log_axis(panel: Axes) -> None:
    """For the panel and those that share its axis."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def alternative(frames: TimingFrames, summary: pd.DataFrame) -> str:
    """The ratio of each engine."""
    medians = summary.groupby("engine", sort=False)["overhead_ratio"].median()
    listed = ", ".join(f"{name} {ratio:.2f}" for name, ratio in medians.items())
    return f"Time of a step over the non-private step's, median over batch sizes: {listed}."


def notes(frames: TimingFrames, summary: pd.DataFrame) -> Iterator[str]:
    """How far the timings can be trusted."""
    return timing_caveats.of_timings(frames.timings)


SPEC = FigureSpec(
    order=10,
    frames=TimingFrames,
    title="What a step costs in time",
    caption="Above: how many times as long a step takes as the non-private one, both timed in "
    "turn; a dot is the median of a process' pairs (or a pair, where all are of one process), the "
    "marker the median of the dots with its 95 % interval. Below: examples per second.",
    missing="Nothing to draw: no engine was timed (the sweep ran with --no-timing, or is not there "
    "yet).",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=notes,
)
