"""What of the accuracy lost is clipping's, and what is the noise's."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpbench import analysis
from dpbench.figures import parts

_MOST_NOISES = 8  # along an axis, for their numbers to be read
_LINE = [name for name in analysis.ARM if name != "noise_multiplier"]


def accuracy_loss_numbers(trials: pd.DataFrame) -> pd.DataFrame:
    """What `accuracy_loss` draws: a row a point, clip-only arms at noise_multiplier 0.

    Columns: those of the arm; `points_lost`, with `low` and `high` (NaN for one seed), `seeds`. Of
    each batch size six lines: of every clipping norm the learning rate that loses the least.
    """
    losses = analysis.loss_split(trials)
    points = []
    losses = losses[
        losses["noise_multiplier"].isin(
            parts.few(sorted(losses["noise_multiplier"].unique()), _MOST_NOISES)
        )
    ]
    for batch_size in parts.few(sorted(losses["batch_size"].unique()), 2 * parts.COLUMNS):
        lines = _readable(losses[losses["batch_size"] == batch_size])
        for _, line in lines.groupby(_LINE, dropna=False, sort=False):
            ordered = line.sort_values("noise_multiplier")
            clip_only = ordered.iloc[[0]].assign(noise_multiplier=0.0)
            points.append(clip_only.assign(lost=clip_only["clipping"]))
            points.append(ordered.assign(lost=ordered["total"]))
    frame = pd.concat(points, ignore_index=True)
    for name, part in (("points_lost", "mean"), ("low", "low"), ("high", "high")):
        frame[name] = [100 * getattr(each, part) for each in frame["lost"]]
    frame["seeds"] = [each.seeds for each in frame["lost"]]
    return frame.drop(columns=["lost", "total", "clipping", "noise"])


def _readable(losses: pd.DataFrame) -> pd.DataFrame:
    """Of every clipping norm and sampling the line that loses least, and of those six."""
    means = losses.assign(mean=[each.mean for each in losses["total"]])
    lines = means.groupby(_LINE, dropna=False, sort=False)["mean"].mean().reset_index()
    lines = lines.sort_values("mean").drop_duplicates(["max_grad_norm", "sampling", "engine"])
    lines = lines.sort_values(["max_grad_norm", "sampling", "engine"])
    kept = lines.loc[parts.few(list(lines.index), parts.MOST_LINES), _LINE]
    return losses.merge(kept)


def accuracy_loss(trials: pd.DataFrame) -> Figure:
    """Accuracy lost against the noise multiplier, a panel for each batch size.

    A line is a clipping norm. At noise 0 stands what clipping alone loses; what a point stands
    above that is the noise's part. Differences to the non-private arm are paired by seed; bars are
    their t intervals.

    Args:
        trials: Rows of `store.read_trials`; at least one arm in `analysis.loss_split`.
    """
    points = accuracy_loss_numbers(trials)
    batch_sizes = sorted(points["batch_size"].unique())
    noises = sorted(points["noise_multiplier"].unique())
    with parts.style():
        figure, panels = parts.panels(len(batch_sizes))
        for panel, batch_size in zip(panels, batch_sizes, strict=True):
            _draw(panel, points[points["batch_size"] == batch_size], noises, points)
            panel.axhline(0, color=parts.GREY, linestyle="--", linewidth=1)
            panel.set_title(f"batch size {batch_size:,}")
            panel.set_xticks(range(len(noises)), ["0\nclip only", *(f"{n:g}" for n in noises[1:])])
            panel.set_xlabel("noise_multiplier")
        for panel in panels[:: parts.COLUMNS]:
            panel.set_ylabel(
                f"points of accuracy on {parts.names(points['dataset'])}\n"
                "lost against the non-private arm"
            )
        colours = parts.levels(points["max_grad_norm"], parts.COLOURS)
        markers = parts.levels(points["max_grad_norm"], parts.MARKERS)
        handles = [
            Line2D([], [], color=colours[clip], marker=markers[clip], label=f"clip {clip:g}")
            for clip in colours
        ]
        if "shuffle" in set(points["sampling"]):
            handles.append(Line2D([], [], color="0.3", linestyle="--", label="shuffled batches"))
        parts.legend_below(figure, handles)
    return figure


def _draw(panel: Axes, here: pd.DataFrame, noises: list[float], every: pd.DataFrame) -> None:
    colours = parts.levels(every["max_grad_norm"], parts.COLOURS)
    markers = parts.levels(every["max_grad_norm"], parts.MARKERS)
    groups = list(here.groupby(_LINE, dropna=False, sort=False))
    for index, (_, line) in enumerate(groups):
        shift = 0.06 * (index - (len(groups) - 1) / 2)
        clip = line["max_grad_norm"].iloc[0]
        panel.errorbar(
            [noises.index(noise) + shift for noise in line["noise_multiplier"]],
            line["points_lost"],
            yerr=(line["high"] - line["points_lost"]).fillna(0),
            color=colours[clip],
            marker=markers[clip],
            markersize=5,
            capsize=3,
            linestyle="--" if line["sampling"].iloc[0] == "shuffle" else "-",
            label=f"{clip:g}",
        )
