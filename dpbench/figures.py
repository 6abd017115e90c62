"""Frame -> matplotlib Figure. No files; seaborn's colour-blind palette, levels also by marker."""

from collections.abc import Sequence
from typing import Any, TypeVar

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dpbench import analysis
from dpbench.trial import ENGINES, NON_PRIVATE

PANEL_INCHES = (4.6, 4.0)
GREY = "0.45"
_MARKERS = "osD^vPX*"

_T = TypeVar("_T")


def privacy_accuracy(trials: pd.DataFrame) -> Figure:
    """Test accuracy against the epsilon spent, a panel for each batch size.

    Each line is an arm (a noise multiplier and a clipping norm) as its epochs spend epsilon; colour
    tells the clipping norm, the marker the noise multiplier, and the large marker is the last
    epoch. With several seeds the line is their mean, the band its t interval, and every seed is a
    small dot. The non-private result is a labelled line; the stepped line is the frontier.

    Args:
        trials: Rows of `store.read_trials`; at least one private row with a finite epsilon.
    """
    rows = analysis.ok(trials)
    private = analysis.private(rows)
    private = private[private["epsilon"] < float("inf")]
    batch_sizes = sorted(private["batch_size"].unique())
    colours = _levels(private["max_grad_norm"], sns.color_palette("colorblind"))
    markers = _levels(private["noise_multiplier"], _MARKERS)
    with sns.axes_style("whitegrid"):
        figure, panels = _panels(len(batch_sizes), share_y=True)
        for panel, batch_size in zip(panels, batch_sizes, strict=True):
            here = private[private["batch_size"] == batch_size]
            baseline = analysis.non_private(rows[rows["batch_size"] == batch_size])
            _draw_frontier(panel, here)
            _draw_arms(panel, here, colours, markers)
            _draw_baseline(panel, baseline)
            panel.set_title(f"batch size {batch_size:,}")
            _epsilon_axis(panel, here)
        panels[0].margins(y=0.08)
        panels[0].set_ylabel(f"test accuracy on {_names(rows['dataset'])} (%)")
        _legend(figure, colours, markers)
    return figure


def overhead(timings: pd.DataFrame) -> Figure:
    """Overhead over the non-private step, and examples per second, against batch size.

    Left: the median ratio of each engine with its interval, every pair a small dot, and a line at
    1, in the band of what the non-private step against itself gives. Right:
    examples per second of each engine and of the non-private step.

    Args:
        timings: Rows of `store.read_timings`; at least one.
    """
    summary = analysis.overhead(timings)
    itself = summary[summary["engine"] == NON_PRIVATE]
    summary = summary[summary["engine"] != NON_PRIVATE]
    batch_sizes = sorted(summary["batch_size"].unique())
    position = {batch_size: index for index, batch_size in enumerate(batch_sizes)}
    engines = [engine for engine in ENGINES if engine in set(summary["engine"])]
    palette = dict(zip(engines, sns.color_palette("colorblind", len(engines)), strict=True))
    with sns.axes_style("whitegrid"):
        figure, (ratio, speed) = _panels(2, share_y=False)
        for index, engine in enumerate(engines):
            of_engine = summary[summary["engine"] == engine].sort_values("batch_size")
            shift = 0.05 * (index - (len(engines) - 1) / 2)
            x = [position[batch_size] + shift for batch_size in of_engine["batch_size"]]
            style = {
                "color": palette[engine],
                "marker": _MARKERS[index % len(_MARKERS)],
                "label": engine,
            }
            pairs = timings[timings["engine"] == engine]
            ratio.scatter(
                [position[batch_size] + shift for batch_size in pairs["batch_size"]],
                pairs["seconds_per_step"] / pairs["baseline_seconds_per_step"],
                s=8,
                color=palette[engine],
                alpha=0.35,
                linewidths=0,
            )
            ratio.errorbar(
                x,
                of_engine["overhead_ratio"],
                yerr=[
                    of_engine["overhead_ratio"] - of_engine["overhead_ratio_low"],
                    of_engine["overhead_ratio_high"] - of_engine["overhead_ratio"],
                ],
                capsize=4,
                **style,
            )
            speed.plot(x, of_engine["examples_per_second"], **style)
        baseline = summary.groupby("batch_size")["baseline_examples_per_second"].median()
        ratio.axhline(1, color=GREY, linestyle="--")
        if len(itself):
            ratio.axhspan(
                itself["overhead_ratio_low"].min(),
                itself["overhead_ratio_high"].max(),
                color=GREY,
                alpha=0.15,
                lw=0,
            )
        ratio.annotate(
            "non-private step",
            (0.01, 1),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            color=GREY,
        )
        speed.plot(
            [position[batch_size] for batch_size in baseline.index],
            baseline,
            color=GREY,
            linestyle="--",
            label="non-private",
        )
        ratio.set_ylabel("time of a step / non-private step")
        ratio.set_ylim(bottom=0)
        speed.set_ylabel("examples per second")
        speed.set_ylim(bottom=0)
        speed.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        for panel in (ratio, speed):
            panel.set_xticks(range(len(batch_sizes)), [f"{size:,}" for size in batch_sizes])
            panel.set_xlim(-0.5, len(batch_sizes) - 0.5)
            panel.set_xlabel(f"batch size ({_names(timings['dataset'])}, {_hardware(timings)})")
        figure.legend(*speed.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _panels(count: int, *, share_y: bool) -> tuple[Figure, list[Axes]]:
    figure = Figure(
        figsize=(PANEL_INCHES[0] * count, PANEL_INCHES[1]), layout="constrained", dpi=150
    )
    return figure, list(figure.subplots(1, count, sharey=share_y, squeeze=False)[0])


def _levels(values: "pd.Series[float]", styles: Sequence[_T]) -> dict[float, _T]:
    """A style for each value, in the values' order."""
    levels = sorted(values.unique())
    return {level: styles[index % len(styles)] for index, level in enumerate(levels)}


def _draw_arms(
    panel: Axes, rows: pd.DataFrame, colours: dict[float, Any], markers: dict[float, str]
) -> None:
    arms = analysis.over_seeds(rows).sort_values("epoch")
    for _, arm in arms.groupby(analysis.ARM, dropna=False, sort=False):
        colour = colours[arm["max_grad_norm"].iloc[0]]
        marker = markers[arm["noise_multiplier"].iloc[0]]
        panel.plot(
            arm["epsilon"], 100 * arm["test_accuracy"], color=colour, marker=marker, markersize=3.5
        )
        panel.plot(
            arm["epsilon"].iloc[-1],
            100 * arm["test_accuracy"].iloc[-1],
            color=colour,
            marker=marker,
            markersize=8,
            markeredgecolor="white",
        )
        if (arm["seeds"] > 1).all():
            panel.fill_between(
                arm["epsilon"], 100 * arm["low"], 100 * arm["high"], color=colour, alpha=0.15, lw=0
            )
    if (arms["seeds"] > 1).any():
        panel.scatter(
            rows["epsilon"],
            100 * rows["test_accuracy"],
            s=4,
            c=[colours[clip] for clip in rows["max_grad_norm"]],
            alpha=0.5,
            linewidths=0,
        )


def _draw_frontier(panel: Axes, rows: pd.DataFrame) -> None:
    best = analysis.frontier(analysis.over_seeds(rows))
    panel.step(
        best["epsilon"],
        100 * best["test_accuracy"],
        where="post",
        color="0.8",
        linewidth=5,
        solid_capstyle="butt",
        zorder=0,
    )


def _draw_baseline(panel: Axes, baseline: pd.DataFrame) -> None:
    """The last epoch of the best non-private arm of the batch size, as a line."""
    if baseline.empty:
        return
    arms = analysis.over_seeds(analysis.final(baseline))
    best = arms.loc[arms["test_accuracy"].idxmax()]
    panel.axhline(100 * best["test_accuracy"], color=GREY, linestyle="--", linewidth=1)
    if best["seeds"] > 1:
        panel.axhspan(100 * best["low"], 100 * best["high"], color=GREY, alpha=0.15, lw=0)
    panel.annotate(
        f"non-private {100 * best['test_accuracy']:.1f} %",
        (0.02, 100 * best["test_accuracy"]),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=GREY,
    )


def _epsilon_axis(panel: Axes, rows: pd.DataFrame) -> None:
    accountants = " or ".join(sorted({name.upper() for name in rows["accountant"]}))
    deltas = ", ".join(
        f"{delta:g}".replace("e-0", "e-") for delta in sorted(rows["delta"].unique())
    )
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(f"epsilon spent ({accountants}, delta {deltas})")


def _legend(figure: Figure, colours: dict[float, Any], markers: dict[float, str]) -> None:
    """One column beside the panels: clipping norms by colour, noise by marker, the frontier."""
    handles = [
        Line2D([], [], linestyle="", label="max_grad_norm"),
        *(Line2D([], [], color=colour, label=f"{clip:g}") for clip, colour in colours.items()),
        Line2D([], [], linestyle="", label="noise_multiplier"),
        *(
            Line2D([], [], color="0.3", marker=marker, linestyle="", label=f"{noise:g}")
            for noise, marker in markers.items()
        ),
        Line2D([], [], color="0.8", linewidth=5, label="frontier"),
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)


def _names(datasets: "pd.Series[str]") -> str:
    return ", ".join(sorted(datasets.unique()))


def _hardware(timings: pd.DataFrame) -> str:
    """Device model and threads, for an axis title."""
    rows = timings[["device", "device_name", "threads"]].drop_duplicates()
    return "; ".join(
        f"{row.device_name}, {row.threads} thread{'s' if row.threads > 1 else ''}"
        if row.device == "cpu"
        else str(row.device_name)
        for row in rows.itertuples()
    )
