"""What of the accuracy lost is clipping's, and what is the noise's."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpbench.analysis import loss_parts, trial_rows
from dpbench.reporting import figure_caveats, quantities
from dpbench.reporting.figure_specs import FigureSpec, TrialFrames
from dpbench.reporting.figures import parts

_MOST_CLIPS = 6  # along an axis, for their numbers to be read
_LINE = [name for name in trial_rows.ARM if name != "noise_multiplier"]


def numbers(frames: TrialFrames) -> pd.DataFrame:
    """A row a point.

    Columns: those of the arm; `part`, clipping or noise; `points_lost` to it, with `low` and `high`
    (NaN for one seed), and `seeds`. The part of clipping has no noise_multiplier, for it is the
    same for all. Of each batch size and clipping norm the learning rate that loses the least.
    """
    if not (frames.trials["noise_multiplier"] == 0).any():  # said sooner than split
        return frames.trials.iloc[:0]
    losses = loss_parts.loss_split(frames.trials)
    if losses.empty:
        return losses
    poisson = losses[losses["sampling"] == "poisson"]
    losses = poisson if len(poisson) else losses
    kept = []
    for batch_size in parts.few(sorted(losses["batch_size"].unique()), 2 * parts.COLUMNS):
        here = losses[losses["batch_size"] == batch_size]
        for name, most in (("max_grad_norm", _MOST_CLIPS), ("noise_multiplier", 5)):
            here = here[here[name].isin(parts.few(sorted(here[name].unique()), most))]
        kept.append(here)
    tuned = _tuned(pd.concat(kept)).sort_values(["batch_size", "max_grad_norm", "noise_multiplier"])
    clipping = tuned.drop_duplicates(_LINE).assign(part="clipping", noise_multiplier=float("nan"))
    noise = tuned.assign(part="noise")
    lost = pd.concat([clipping["lost_to_clipping"], noise["lost_to_noise"]], ignore_index=True)
    frame = pd.concat([clipping, noise], ignore_index=True)[[*trial_rows.ARM, "part"]]
    for name, part in (("points_lost", "mean"), ("low", "low"), ("high", "high")):
        frame[name] = [100 * getattr(each, part) for each in lost]
    return frame.assign(seeds=[each.seeds for each in lost])


def _tuned(losses: pd.DataFrame) -> pd.DataFrame:
    """Of every batch size and clipping norm the line that loses least."""
    means = losses.assign(mean=[each.mean for each in losses["lost"]])
    lines = means.groupby(_LINE, dropna=False, sort=False)["mean"].mean().reset_index()
    lines = lines.sort_values("mean", kind="stable").drop_duplicates(
        ["batch_size", "max_grad_norm"]
    )
    return losses.merge(lines[_LINE])


def draw(frames: TrialFrames, points: pd.DataFrame) -> Figure:
    """Points lost to clipping, and to the noise on top of it, over clipping norms.

    A panel a batch size; the grey line is clipping's part, each other that of a noise multiplier,
    which stands at its end. Differences are paired by seed; bars are their t intervals.
    """
    batch_sizes = sorted(points["batch_size"].unique())
    with parts.style():
        figure, panels = parts.panels(len(batch_sizes), width=1.1, height=1.1)
        for panel, batch_size in zip(panels, batch_sizes, strict=True):
            here = points[points["batch_size"] == batch_size]
            clips = sorted(here["max_grad_norm"].unique())
            _draw_lines(panel, here, clips)
            panel.axhline(0, color=parts.GREY, linestyle="--", linewidth=1)
            panel.set_title(f"batch size {batch_size:,}")
            panel.set_xticks(range(len(clips)), [quantities.short(clip) for clip in clips])
            panel.set_xlim(-0.5, len(clips) - 0.5)
            panel.set_xlabel("max_grad_norm")
        for panel in panels[:: parts.COLUMNS]:
            panel.set_ylabel(f"points of accuracy lost\non {parts.names(points['dataset'])}")
        lost = [points[points["batch_size"] == each]["points_lost"] for each in batch_sizes]
        parts.loss_axis(panels, lost)
        parts.name_lines(figure, panels)
    return figure


def _draw_lines(panel: Axes, here: pd.DataFrame, clips: list[float]) -> None:
    noises = sorted(here["noise_multiplier"].dropna().unique())
    styles: dict[str, dict[str, Any]] = {"clipping": {"color": parts.GREY, "marker": "X"}}
    for index, noise in enumerate(noises):
        style = {"color": parts.COLOURS[index], "marker": parts.MARKERS[index]}
        styles[f"noise {quantities.short(noise)}"] = style
    lines = [here[here["part"] == "clipping"]]
    lines += [here[here["noise_multiplier"] == noise] for noise in noises]
    for index, (line, (name, style)) in enumerate(zip(lines, styles.items(), strict=True)):
        shift = 0.05 * (index - (len(lines) - 1) / 2)
        panel.errorbar(
            [clips.index(clip) + shift for clip in line["max_grad_norm"]],
            line["points_lost"],
            yerr=(line["high"] - line["points_lost"]).fillna(0),
            markersize=5,
            capsize=2,
            elinewidth=1,
            label=name,
            **style,
        )


def alternative(frames: TrialFrames, points: pd.DataFrame) -> str:
    """The least and the most that clipping and the noise lose."""
    clipping, noise = (
        points[points["part"] == part]["points_lost"] for part in ("clipping", "noise")
    )
    return (
        f"Points of accuracy lost over clipping norms. Clipping loses {clipping.min():.1f} to "
        f"{clipping.max():.1f}; the noise on top of it {noise.min():.1f} to {noise.max():.1f}."
    )


def notes(frames: TrialFrames, points: pd.DataFrame) -> Iterator[str]:
    """How much of a difference may be chance, and what a loss below zero means."""
    yield from figure_caveats.of_seeds(frames.trials)
    yield from figure_caveats.of_gains(points)


SPEC = FigureSpec(
    order=40,
    frames=TrialFrames,
    title="Clipping loss against noise loss",
    caption="Points of accuracy lost against the non-private setting of the same batch size, "
    "paired by seed: in grey what clipping alone loses, with each noise multiplier what its noise "
    "loses on top of that. Bars are 95 % t intervals. A loss far above the smaller half is counted "
    "below its panel.",
    missing="Nothing to draw: it needs trials that clip without noise (--clip-only) and "
    "non-private ones, of the same seeds.",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=notes,
)
