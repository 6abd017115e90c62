"""Test accuracy, epoch by epoch, against the epsilon spent."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dpbench import analysis
from dpbench.figures import parts

_PANEL = ["batch_size", "noise_multiplier"]


def learning_curves_numbers(trials: pd.DataFrame) -> pd.DataFrame:
    """What `learning_curves` draws: rows of `analysis.over_seeds`, one a line's epoch.

    Of every arm the best learning rate; where there are more panels or lines than can be read,
    those evenly between the first and the last.
    """
    rows = analysis.private(analysis.ok(trials))
    curves = analysis.over_seeds(rows[rows["epsilon"] < float("inf")]).sort_values("epoch")
    ends = curves.loc[curves.groupby(analysis.ARM, dropna=False)["epoch"].idxmax()]
    kept = _readable(analysis.tuned(ends))
    return curves.merge(kept[analysis.ARM]).sort_values([*_PANEL, "max_grad_norm", "epoch"])


def _readable(ends: pd.DataFrame) -> pd.DataFrame:
    """Three batch sizes, six noise multipliers of each, and six arms of each of those."""
    kept = []
    for batch_size in parts.few(sorted(ends["batch_size"].unique()), parts.COLUMNS):
        here = ends[ends["batch_size"] == batch_size]
        noises = sorted(here["noise_multiplier"].unique())
        for noise in parts.few(noises, parts.MOST_PANELS // parts.COLUMNS):
            arms = here[here["noise_multiplier"] == noise]
            ordered = arms.sort_values(["max_grad_norm", "sampling", "engine"])
            kept.append(ordered.loc[parts.few(list(ordered.index), parts.MOST_LINES)])
    return pd.concat(kept)


def learning_curves(trials: pd.DataFrame) -> Figure:
    """Accuracy against epsilon as training goes on, a panel for each batch size and noise.

    A line is a clipping norm, a marker on it an epoch; with several seeds it is their mean, and its
    band the t interval. Shuffled batches are dashed and hollow.

    Args:
        trials: Rows of `store.read_trials`; at least one private row with a finite epsilon.
    """
    curves = learning_curves_numbers(trials)
    colours = parts.levels(curves["max_grad_norm"], parts.COLOURS)
    markers = parts.levels(curves["max_grad_norm"], parts.MARKERS)
    places = _places(curves)
    with parts.style():
        columns = len({batch_size for batch_size, _ in places})
        rows = max(row for row, _ in places.values()) + 1
        figure, every = parts.panels(rows * columns, columns=columns, height=0.85)
        for key, (row, column) in places.items():
            panel = every[row * columns + column]
            here = curves[(curves[_PANEL] == list(key)).all(axis=1)]
            _draw(panel, here, colours, markers)
            panel.set_title(f"batch size {key[0]:,}, noise {key[1]:g}")
            panel.xaxis.set_major_locator(MaxNLocator(4))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            if (row + 1, column) not in places.values():
                panel.set_xlabel(parts.epsilon_label(curves))
            if column == 0:
                panel.set_ylabel(f"accuracy on {parts.names(trials['dataset'])} (%)")
        for index, panel in enumerate(every):
            if (index // columns, index % columns) not in places.values():
                panel.remove()
        handles = [
            Line2D([], [], color=colours[clip], marker=markers[clip], label=f"clip {clip:g}")
            for clip in colours
        ]
        if "shuffle" in set(curves["sampling"]):
            style: dict[str, Any] = {"marker": "o", "markerfacecolor": "white"}
            handles.append(
                Line2D([], [], color="0.3", linestyle="--", label="shuffled batches", **style)
            )
        parts.legend_below(figure, handles)
    return figure


def _places(curves: pd.DataFrame) -> dict[tuple[int, float], tuple[int, int]]:
    """(row, column) of each panel: a column is a batch size, its noise multipliers downwards."""
    places = {}
    for column, (batch_size, here) in enumerate(curves.groupby("batch_size")):
        for row, noise in enumerate(sorted(here["noise_multiplier"].unique())):
            places[batch_size, noise] = (row, column)
    return places


def _draw(
    panel: Axes, curves: pd.DataFrame, colours: dict[float, Any], markers: dict[float, str]
) -> None:
    for _, arm in curves.groupby(analysis.ARM, dropna=False, sort=False):
        clip, sampling = arm["max_grad_norm"].iloc[0], arm["sampling"].iloc[0]
        panel.plot(
            arm["epsilon"],
            100 * arm["test_accuracy"],
            color=colours[clip],
            marker=markers[clip],
            markersize=4,
            markerfacecolor="white" if sampling == "shuffle" else colours[clip],
            linestyle="--" if sampling == "shuffle" else "-",
        )
        if (arm["seeds"] > 1).all():
            panel.fill_between(
                arm["epsilon"],
                100 * arm["low"].clip(lower=0),
                100 * arm["high"].clip(upper=1),
                color=colours[clip],
                alpha=0.15,
                lw=0,
            )
