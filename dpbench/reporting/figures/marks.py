"""Marks of arms in a panel: their end with its interval, their seeds, the non-private result."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from dpbench.analysis import arm_means, frontier, trial_rows
from dpbench.reporting import quantities
from dpbench.reporting.figures import parts


def draw_end(panel: Axes, end: "pd.Series[Any]", colour: Any, marker: str) -> None:
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


def draw_seeds(panel: Axes, end: "pd.Series[Any]", trials: pd.DataFrame) -> None:
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


def draw_baseline(panel: Axes, trials: pd.DataFrame, batch_size: int) -> None:
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


def draw_bars(panel: Axes, points: pd.DataFrame, colour: Any) -> None:
    """The intervals of the points that have one."""
    known = points[points["high"] >= points["low"]]
    middle = 100 * known["test_accuracy"]
    low, high = 100 * known["low"].clip(0), 100 * known["high"].clip(upper=1)
    panel.errorbar(
        known["epsilon"],
        middle,
        [middle - low, high - middle],
        color=colour,
        linestyle="",
        elinewidth=1.4,
        capsize=3,
        zorder=3,
    )
