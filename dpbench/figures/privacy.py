"""Test accuracy against the epsilon spent: where each arm ends, and the frontier."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from dpbench import analysis
from dpbench.figures import parts

_MOST_LEVELS = {
    "batch_size": 2 * parts.COLUMNS,
    "noise_multiplier": len(parts.MARKERS),
    "max_grad_norm": len(parts.COLOURS),
}
_APART_POINTS = 6.0  # between the markers of arms that spend the same epsilon


def privacy_accuracy_numbers(trials: pd.DataFrame) -> pd.DataFrame:
    """What `privacy_accuracy` draws: a row for each arm's end, and for each step of a frontier.

    Columns: those of `analysis.over_seeds`; `end`, whether it is drawn as an arm's last epoch; and
    `frontier`, whether no epoch of an arm of its batch size beats it in both epsilon and accuracy.
    """
    curves = _curves(trials)
    frontiers = pd.concat([analysis.frontier(here) for _, here in curves.groupby("batch_size")])
    on = frontiers.assign(frontier=True)
    ends = _ends(trials).merge(on[[*analysis.ARM, "epoch", "frontier"]], how="left")
    ends["frontier"] = ends["frontier"].eq(True)
    others = on.merge(ends[[*analysis.ARM, "epoch"]], how="left", indicator=True)
    others = others[others["_merge"] == "left_only"].drop(columns="_merge")
    return pd.concat([ends.assign(end=True), others.assign(end=False)], ignore_index=True)


def privacy_accuracy(trials: pd.DataFrame) -> Figure:
    """Test accuracy against the epsilon spent, a panel for each batch size.

    A marker is an arm at its last epoch, of the best learning rate where several were tried: colour
    tells the clipping norm, shape the noise multiplier. With several seeds it is their mean, its
    bar the t interval, and every seed a small dot beside it. Arms of one epsilon stand side by
    side. The stepped line is the frontier over every epoch of every arm; the non-private result
    is a labelled line in its band. Arms with shuffled batches are hollow, at the epsilon that holds
    for them; a dotted line leads there from the epsilon that is quoted where they are taken for
    Poisson batches.

    Args:
        trials: Rows of `store.read_trials`; at least one private row with a finite epsilon.
    """
    curves, ends = _curves(trials), _ends(trials)
    batch_sizes = sorted(ends["batch_size"].unique())
    colours = parts.levels(ends["max_grad_norm"], parts.COLOURS)
    markers = parts.levels(ends["noise_multiplier"], parts.MARKERS)
    # the end of an arm that is still running is the last epoch that it has
    shown = analysis.ok(trials).merge(ends[[*analysis.ARM, "epoch"]].reset_index(names="end"))
    seeds = dict(list(shown.groupby("end")))
    with parts.style():
        figure, panels = parts.panels(len(batch_sizes), height=1.15)
        for panel, batch_size in zip(panels, batch_sizes, strict=True):
            _draw_frontier(panel, curves[curves["batch_size"] == batch_size])
            here = ends[ends["batch_size"] == batch_size]
            _draw_ends(panel, here, seeds, colours, markers)
            _draw_baseline(panel, analysis.ok(trials), batch_size)
            panel.set_title(f"batch size {batch_size:,}")
            parts.epsilon_axis(panel, curves[curves["batch_size"] == batch_size])
            panel.margins(x=0.1, y=0.08)
        for panel in panels[:: parts.COLUMNS]:
            panel.set_ylabel(f"test accuracy on {parts.names(trials['dataset'])} (%)")
        parts.legend_below(figure, _handles(colours, markers, curves))
    return figure


def _curves(trials: pd.DataFrame) -> pd.DataFrame:
    """Every epoch of every private arm that spends a finite epsilon, over its seeds."""
    rows = analysis.private(analysis.ok(trials))
    return analysis.over_seeds(rows[rows["epsilon"] < float("inf")])


def _ends(trials: pd.DataFrame) -> pd.DataFrame:
    """The last epoch of each arm, of those that differ by learning rate the best.

    Of more levels than can be told apart, those evenly between the first and the last.
    """
    curves = _curves(trials)
    ends = curves.loc[curves.groupby(analysis.ARM, dropna=False)["epoch"].idxmax()]
    for name, most in _MOST_LEVELS.items():
        kept = parts.few(sorted(ends[name].unique()), most)
        ends = ends[ends[name].isin(kept)]
    return analysis.tuned(ends).reset_index(drop=True)


def _draw_ends(
    panel: Axes,
    ends: pd.DataFrame,
    seeds: dict[int, pd.DataFrame],
    colours: dict[float, Any],
    markers: dict[float, str],
) -> None:
    inches = panel.get_figure().dpi_scale_trans  # type: ignore[union-attr]
    for place, (index, end) in _side_by_side(ends):
        aside = ScaledTranslation(place * _APART_POINTS / 72, 0, inches)
        there = panel.transData + aside
        colour = colours[end["max_grad_norm"]]
        accuracy = 100 * end["test_accuracy"]
        if end["sampling"] == "shuffle":
            quoted = [end["epsilon_if_poisson"], end["epsilon"]]
            panel.plot(quoted, [accuracy] * 2, color=colour, linestyle=":", zorder=1.5)
        if end["seeds"] > 1:
            half = 100 * (end["high"] - end["test_accuracy"])
            panel.errorbar(
                end["epsilon"], accuracy, half, color=colour, elinewidth=1.2, transform=there
            )
            each = seeds[int(str(index))]
            panel.plot(
                each["epsilon"],
                100 * each["test_accuracy"],
                color=colour,
                linestyle="",
                marker=".",
                markersize=3.5,
                transform=there + ScaledTranslation(3.5 / 72, 0, inches),
            )
        for y in (end["low"], end["test_accuracy"], end["high"]):
            if math.isfinite(y):  # what is moved aside does not widen the axes by itself
                panel.update_datalim([(end["epsilon"], 100 * y)])
        panel.plot(
            end["epsilon"],
            accuracy,
            transform=there,
            zorder=3,
            **_marker(colour, markers[end["noise_multiplier"]], end["sampling"]),
        )


def _marker(colour: Any, marker: str, sampling: str) -> dict[str, Any]:
    """Filled with a white edge, or hollow for shuffled batches."""
    shuffled = sampling == "shuffle"
    return {
        "color": colour,
        "marker": marker,
        "markersize": 6.5,
        "markeredgecolor": colour if shuffled else "white",
        "markeredgewidth": 1.2 if shuffled else 0.6,
        "markerfacecolor": "white" if shuffled else colour,
    }


def _side_by_side(ends: pd.DataFrame) -> list[tuple[float, Any]]:
    """Each arm with its place among those of its noise and sampling, 0 in their middle."""
    placed = []
    for _, same in ends.groupby(["noise_multiplier", "sampling", "epochs"], sort=False):
        ordered = same.sort_values(["max_grad_norm", "engine"])
        middle = (len(ordered) - 1) / 2
        placed += [(index - middle, row) for index, row in enumerate(ordered.iterrows())]
    return placed


def _draw_frontier(panel: Axes, curves: pd.DataFrame) -> None:
    best = analysis.frontier(curves)
    panel.step(  # as far as any arm has spent
        [*best["epsilon"], curves["epsilon"].max()],
        [*(100 * best["test_accuracy"]), 100 * best["test_accuracy"].iloc[-1]],
        where="post",
        color="0.8",
        linewidth=5,
        solid_capstyle="butt",
        zorder=0,
    )


def _draw_baseline(panel: Axes, rows: pd.DataFrame, batch_size: int) -> None:
    """The last epoch of the best non-private arm of the batch size, as a line."""
    arms = analysis.over_seeds(
        analysis.final(analysis.unclipped(rows[rows["batch_size"] == batch_size]))
    )
    if arms.empty:
        return
    best = analysis.best(arms)
    panel.axhline(100 * best["test_accuracy"], color=parts.GREY, linestyle="--", linewidth=1)
    if best["seeds"] > 1:
        panel.axhspan(100 * best["low"], 100 * best["high"], color=parts.GREY, alpha=0.15, lw=0)
    panel.annotate(
        f"non-private {100 * best['test_accuracy']:.1f} %",
        (0.02, 100 * best["test_accuracy"]),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=parts.GREY,
    )


def _handles(
    colours: dict[float, Any], markers: dict[float, str], curves: pd.DataFrame
) -> list[Line2D]:
    """Clipping norms by colour, noise by marker, the frontier, and how shuffled arms look."""
    plain: dict[str, Any] = {"color": "0.3", "linestyle": ""}
    handles = [
        *(
            Line2D([], [], color=colours[clip], linewidth=4, label=f"clip {clip:g}")
            for clip in colours
        ),
        *(
            Line2D([], [], marker=markers[noise], label=f"noise {noise:g}", **plain)
            for noise in markers
        ),
        Line2D([], [], color="0.8", linewidth=5, label="frontier"),
    ]
    if "shuffle" in set(curves["sampling"]):
        handles += [
            Line2D([], [], marker="o", markerfacecolor="white", label="shuffled batches", **plain),
            Line2D([], [], color="0.3", linestyle=":", label="quoted as if Poisson"),
        ]
    return handles
