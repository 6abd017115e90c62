"""Test accuracy against the epsilon spent: where each noise multiplier ends, and the frontier."""

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpbench.analysis import arm_means, frontier, trial_rows
from dpbench.privacy.budgets import ANSWER_AT
from dpbench.reporting import quantities
from dpbench.reporting.figures import parts

_MOST_NAMED = 4  # epsilons in the legend
_MOST_NOISES = 8  # in a panel, for their markers to stand apart
_FRONTIER: dict[str, Any] = {"color": "0.55", "linewidth": 2.5, "solid_capstyle": "butt"}
_DASHES = {"poisson": "-", "shuffle": "--"}
_RING: dict[str, Any] = {
    "color": "0.1",
    "linestyle": "",
    "marker": "o",
    "markersize": 13,
    "markerfacecolor": "none",
}


def privacy_accuracy_numbers(trials: pd.DataFrame, at: Sequence[float] = ANSWER_AT) -> pd.DataFrame:
    """What `privacy_accuracy` draws: a row for each marker, ring and step of a frontier.

    Columns: those of `arm_means.over_seeds`; `end`, whether it is a marker: of its batch size,
    noise multiplier, sampling and epochs the best arm, at its last epoch; `frontier`, whether no
    epoch of an arm of its batch size and sampling beats it in both epsilon and accuracy; and
    `best_within`, the least of the epsilons within which it is the best of all arms of its sampling
    (NaN for others).

    Args:
        trials: Rows of `comparability.comparable`.
        at: Epsilons that are answered for.
    """
    curves = _curves(trials)
    curves["end"] = curves.index.isin(_ends(curves).index)
    curves["frontier"] = False
    for _, here in curves.groupby(["batch_size", "sampling"]):
        curves.loc[frontier.frontier(here).index, "frontier"] = True
    curves["best_within"] = float("nan")
    largest_first = sorted(at, reverse=True)
    for epsilon, sampling in itertools.product(largest_first, curves["sampling"].unique()):
        arms = frontier.last_within(curves[curves["sampling"] == sampling], epsilon)
        if len(arms):
            curves.loc[frontier.best(arms).name, "best_within"] = epsilon
    drawn = curves["end"] | curves["frontier"] | curves["best_within"].notna()
    shown = curves[curves["end"]]["batch_size"]
    return curves[drawn & curves["batch_size"].isin(shown)].reset_index(drop=True)


def privacy_accuracy(trials: pd.DataFrame, at: Sequence[float] = ANSWER_AT) -> Figure:
    """Test accuracy against the epsilon spent, a panel for each batch size.

    A marker is a noise multiplier, at the last epoch of its best arm; colour and shape tell the
    clipping norm of that. With several seeds it is their mean, its bar the t interval, and every
    seed a small dot. The stepped line is the frontier over every epoch of every arm, a ring the
    best of all arms within an epsilon that is answered for; the non-private result is a labelled
    line in its band. Arms with shuffled batches are hollow, at the epsilon that holds for them,
    which is for other neighbours, so that they have a frontier, dashed, and rings of their own; a
    dotted line leads there from the epsilon that is quoted where they are taken for Poisson
    batches.

    Args:
        trials: Rows of `comparability.comparable`; at least one in `parts.on_log_axis`.
        at: Epsilons that are answered for.
    """
    points = privacy_accuracy_numbers(trials, at)
    ends = points[points["end"]]
    batch_sizes = sorted(ends["batch_size"].unique())
    colours = parts.levels(ends["max_grad_norm"], parts.COLOURS)
    markers = parts.levels(ends["max_grad_norm"], parts.MARKERS)
    epsilons = pd.concat([points["epsilon"], ends["epsilon_if_poisson"].astype(float)])
    epsilons = epsilons[epsilons > 0]  # on a log axis
    with parts.style():
        figure, panels = parts.panels(len(batch_sizes), height=1.1)
        for panel, batch_size in zip(panels, batch_sizes, strict=True):
            here = points[points["batch_size"] == batch_size]
            for _, end in here[here["end"]].iterrows():
                _draw_end(panel, end, colours[end["max_grad_norm"]], markers[end["max_grad_norm"]])
                _draw_seeds(panel, end, trials)
            best = here[here["best_within"].notna()]
            panel.plot(best["epsilon"], 100 * best["test_accuracy"], zorder=4, **_RING)
            for sampling, same in here.groupby("sampling"):
                style = _FRONTIER | {"linestyle": _DASHES[sampling], "zorder": 1.2}
                panel.step(*_frontier(same), where="post", **style)
            _draw_baseline(panel, trials, batch_size)
            panel.set_title(f"batch size {batch_size:,}")
            parts.epsilon_axis(panel, points, epsilons.min(), epsilons.max(), at)
        for panel in panels[:: parts.COLUMNS]:
            panel.set_ylabel(f"test accuracy on {parts.names(trials['dataset'])} (%)")
        parts.percent_axis(panels)
        parts.legend(figure, _handles(colours, markers, points, at))
    return figure


def _curves(trials: pd.DataFrame) -> pd.DataFrame:
    """Every epoch of every private arm whose epsilon a log axis can hold, over its seeds."""
    return arm_means.over_seeds(parts.on_log_axis(trials))


def _ends(curves: pd.DataFrame) -> pd.DataFrame:
    """Of each noise multiplier, batch size, sampling and epochs the best arm's last epoch.

    The last that it has, where it is still running. Of more levels than can be told apart, those
    evenly between the first and the last.
    """
    ends = curves.loc[curves.groupby(trial_rows.ARM, dropna=False)["epoch"].idxmax()]
    ends = frontier.best_of_each(ends, ["batch_size", "noise_multiplier", "sampling", "epochs"])
    kept = []
    for batch_size in parts.few(sorted(ends["batch_size"].unique()), 2 * parts.COLUMNS):
        here = ends[ends["batch_size"] == batch_size]
        noises = parts.few(sorted(here["noise_multiplier"].unique()), _MOST_NOISES)
        kept.append(here[here["noise_multiplier"].isin(noises)])
    return pd.concat(kept)


def _frontier(points: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Its steps in a panel, as far as anything drawn there has spent."""
    best = points[points["frontier"]].sort_values("epsilon")
    epsilons, accuracies = list(best["epsilon"]), list(100 * best["test_accuracy"])
    return [*epsilons, points["epsilon"].max()], [*accuracies, accuracies[-1]]


def _draw_end(panel: Axes, end: "pd.Series[Any]", colour: Any, marker: str) -> None:
    """A marker with its bar and its noise multiplier."""
    x, y = end["epsilon"], 100 * end["test_accuracy"]
    shuffled = end["sampling"] == "shuffle"
    if shuffled:
        panel.plot([end["epsilon_if_poisson"], x], [y, y], color=colour, linestyle=":", zorder=1.5)
    if end["high"] >= end["low"]:  # it has an interval
        low, high = 100 * max(end["low"], 0), 100 * min(end["high"], 1)
        panel.errorbar(x, y, [[y - low], [high - y]], color=colour, elinewidth=1.4, zorder=2)
    panel.plot(
        x,
        y,
        color=colour,
        marker=marker,
        markersize=7.5,
        markeredgecolor=colour if shuffled else "white",
        markeredgewidth=1.2 if shuffled else 0.6,
        markerfacecolor="white" if shuffled else colour,
        zorder=3,
    )
    parts.label_point(panel, quantities.short(end["noise_multiplier"]), (x, y), (4, -4))


def _draw_seeds(panel: Axes, end: "pd.Series[Any]", trials: pd.DataFrame) -> None:
    """Every seed as a dot over the bar, where there are several."""
    if end["seeds"] < 2:
        return
    arm = {name: end[name] for name in (*trial_rows.ARM, "epoch")}
    seeds = trial_rows.where(trial_rows.ok(trials), arm)
    panel.plot(
        seeds["epsilon"],
        100 * seeds["test_accuracy"],
        color="0.1",
        linestyle="",
        marker="o",
        markersize=2.6,
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=3.5,
    )


def _draw_baseline(panel: Axes, trials: pd.DataFrame, batch_size: int) -> None:
    """The last epoch of the best non-private arm of the batch size, as a line."""
    rows = trials[trials["batch_size"] == batch_size]
    arms = arm_means.over_seeds(trial_rows.final(trial_rows.unclipped(rows)))
    if arms.empty:
        return
    best = frontier.best(arms)
    y = 100 * best["test_accuracy"]
    panel.axhline(y, color=parts.GREY, linestyle="--", linewidth=1, zorder=1)
    if best["high"] > best["low"]:  # it has an interval
        low, high = max(best["low"], 0), min(best["high"], 1)
        panel.axhspan(100 * low, 100 * high, color=parts.GREY, alpha=0.15, lw=0)
    panel.annotate(
        f"non-private {y:.2f} %",
        (0.03, y),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=parts.GREY,
        fontsize=9.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        zorder=1.1,
    )


def _handles(
    colours: dict[float, Any],
    markers: dict[float, str],
    points: pd.DataFrame,
    at: Sequence[float],
) -> list[Line2D]:
    """Clipping norms, what the numbers are, and of the rest what is drawn."""
    plain: dict[str, Any] = {"color": "0.3", "linestyle": ""}
    handles = [
        Line2D(
            [], [], color=colours[clip], marker=markers[clip], linestyle="", label=f"clip {clip:g}"
        )
        for clip in colours
    ]
    handles.append(Line2D([], [], label="number: noise_multiplier", **plain))
    if points["best_within"].notna().any():
        within = " or ".join(", ".join(map(quantities.short, at)).rsplit(", ", 1))
        label = f"best within {within}" if len(at) <= _MOST_NAMED else "best within an answer's"
        handles.append(Line2D([], [], label=label, **_RING | {"markersize": 9}))
    by = ["batch_size", "sampling"]
    if any(len(set(_frontier(here)[0])) > 1 for _, here in points.groupby(by)):
        handles.append(Line2D([], [], label="frontier", **_FRONTIER))
    if "shuffle" in set(points[points["end"]]["sampling"]):
        handles += [
            Line2D([], [], marker="o", markerfacecolor="white", label="shuffled batches", **plain),
            Line2D([], [], color="0.3", linestyle=":", label="quoted as if Poisson"),
        ]
    return handles
