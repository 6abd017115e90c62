"""Test accuracy, epoch by epoch, against the epsilon spent."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from dpbench.analysis import arm_means, frontier, trial_rows
from dpbench.reporting import figure_caveats, quantities
from dpbench.reporting.figure_specs import FigureSpec, TrialFrames
from dpbench.reporting.figures import parts

_LINE = ["batch_size", "noise_multiplier", "sampling"]


def numbers(frames: TrialFrames) -> pd.DataFrame:
    """The epochs of the lines, as rows of `arm_means.over_seeds`.

    Of every noise multiplier the arm that ends best; where there are more panels or lines than can
    be read, those evenly between the first and the last.
    """
    curves = arm_means.over_seeds(parts.on_log_axis(frames.trials))
    if curves.empty:
        return curves
    ends = curves.loc[curves.groupby(trial_rows.ARM, dropna=False)["epoch"].idxmax()]
    ends = frontier.best_of_each(ends, _LINE)
    kept = []
    for batch_size in parts.few(sorted(ends["batch_size"].unique()), 2 * parts.COLUMNS):
        here = ends[ends["batch_size"] == batch_size]
        kept.append(here.loc[parts.few(list(here.index), parts.MOST_LINES)])
    return curves.merge(pd.concat(kept)[trial_rows.ARM]).sort_values([*_LINE, "epoch"])


def draw(frames: TrialFrames, curves: pd.DataFrame) -> Figure:
    """Accuracy against epsilon as training goes on, a panel for each batch size.

    A line is a noise multiplier, which stands at its start, of the arm that ends best; a marker on
    it is an epoch. With several seeds it is their mean, and its band the t interval.
    Shuffled batches are dashed and hollow.
    """
    epsilons = curves["epsilon"].min(), curves["epsilon"].max()
    floor = parts.floor(curves["test_accuracy"])
    batch_sizes = sorted(curves["batch_size"].unique())
    with parts.style():
        figure, panels = parts.panels(len(batch_sizes), height=1.1)
        for panel, batch_size in zip(panels, batch_sizes, strict=True):
            here = curves[curves["batch_size"] == batch_size]
            colours = parts.levels(here["noise_multiplier"], parts.COLOURS)
            markers = parts.levels(here["noise_multiplier"], parts.MARKERS)
            for (noise, sampling), line in here.groupby(["noise_multiplier", "sampling"]):
                _draw_line(
                    panel, line, colours[noise], markers[noise], shuffled=sampling == "shuffle"
                )
                _name_line(panel, line, colours[noise], floor)
            panel.set_title(f"batch size {batch_size:,}")
            parts.epsilon_axis(panel, curves, *epsilons, frames.epsilons)
        for panel in panels[:: parts.COLUMNS]:
            panel.set_ylabel(f"test accuracy on {parts.names(frames.trials['dataset'])} (%)")
        by_panel = [here["test_accuracy"] for _, here in curves.groupby("batch_size")]
        parts.percent_axis(panels, by_panel, "epoch")
        plain: dict[str, Any] = {"color": "0.3", "marker": "o"}
        handles = [
            Line2D([], [], label="an epoch", **plain),
            Line2D([], [], label="number: noise_multiplier", linestyle=""),
        ]
        if "shuffle" in set(curves["sampling"]):
            hollow = {"linestyle": "--", "markerfacecolor": "white"}
            handles.append(Line2D([], [], label="shuffled batches", **plain | hollow))
        parts.legend(figure, handles)
    return figure


def _draw_line(
    panel: Axes, line: pd.DataFrame, colour: Any, marker: str, *, shuffled: bool
) -> None:
    if (line["seeds"] > 1).all():
        panel.fill_between(
            line["epsilon"],
            100 * line["low"].clip(lower=0),
            100 * line["high"].clip(upper=1),
            color=colour,
            alpha=0.12,
            lw=0,
            zorder=1,
        )
    panel.plot(  # over all bands, and with a white edge
        line["epsilon"],
        100 * line["test_accuracy"],
        color=colour,
        marker=marker,
        markersize=4,
        markerfacecolor="white" if shuffled else colour,
        linestyle="--" if shuffled else "-",
        path_effects=[withStroke(linewidth=3, foreground="white")],
        zorder=3,
    )


def _name_line(panel: Axes, line: pd.DataFrame, colour: Any, floor: float) -> None:
    """Its noise multiplier, below the first epoch that is on the axis."""
    seen = line[100 * line["test_accuracy"] >= floor]
    if len(seen):
        start = seen.iloc[0]
        at = (start["epsilon"], 100 * start["test_accuracy"])
        parts.label_point(panel, quantities.short(start["noise_multiplier"]), at, (0, -5), colour)


def alternative(frames: TrialFrames, curves: pd.DataFrame) -> str:
    """How many lines there are, of what, and where they end."""
    ends = curves.sort_values("epoch", kind="stable").groupby(trial_rows.ARM, dropna=False).tail(1)
    return (
        f"{len(ends)} lines of test accuracy against the epsilon spent, for batch sizes "
        f"{quantities.listed(curves['batch_size'])} and noise multipliers "
        f"{quantities.listed(curves['noise_multiplier'])}; they end at "
        f"{100 * ends['test_accuracy'].min():.1f} to {100 * ends['test_accuracy'].max():.1f} %."
    )


def notes(frames: TrialFrames, curves: pd.DataFrame) -> Iterator[str]:
    """Curves that are points, chance, neighbours, and noise multipliers that are not drawn."""
    if parts.on_log_axis(frames.trials)["epoch"].max() == 1:
        yield "One epoch was trained, so each curve is a point."
    yield from figure_caveats.of_seeds(frames.trials)
    yield from figure_caveats.of_neighbours(frames.trials)
    yield from figure_caveats.of_levels(frames.trials, curves)


SPEC = FigureSpec(
    order=30,
    frames=TrialFrames,
    title="Learning curves",
    caption="Test accuracy as training goes on and epsilon is spent: each marker is an epoch, each "
    "line a noise multiplier with the setting that ends best, its band the 95 % t interval. A "
    "curve that has gone flat spends epsilon for nothing. Epochs far below the better half are "
    "counted below their panel.",
    missing="Nothing to draw: no private trial has finished an epoch and spent an epsilon above 0.",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=notes,
)
