"""Test accuracy over noise multipliers and clipping norms, as numbers in cells."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from dpbench.analysis import arm_means, frontier, trial_rows
from dpbench.reporting import figure_caveats, quantities
from dpbench.reporting.figure_specs import FigureSpec, TrialFrames
from dpbench.reporting.figures import parts

_MOST_CLIPS, _MOST_NOISES = 6, 8  # in a panel, for the numbers to be read
_LEAST_SPAN = 2.0  # points, so that differences of chance look alike


def numbers(frames: TrialFrames) -> pd.DataFrame:
    """Of each cell the best arm at its last epoch, as a row of `arm_means.over_seeds`.

    Poisson batches where the store has any. Of more levels than can be read, those evenly between
    the first and the last.
    """
    rows = trial_rows.private(trial_rows.final(frames.trials))
    if rows.empty:
        return rows
    poisson = rows[rows["sampling"] == "poisson"]
    arms = arm_means.over_seeds(poisson if len(poisson) else rows)
    cells = frontier.best_of_each(arms, ["batch_size", "noise_multiplier", "max_grad_norm"])
    kept = []
    for batch_size in parts.few(sorted(cells["batch_size"].unique()), 2 * parts.COLUMNS):
        here = cells[cells["batch_size"] == batch_size]
        for name, most in (("noise_multiplier", _MOST_NOISES), ("max_grad_norm", _MOST_CLIPS)):
            here = here[here[name].isin(parts.few(sorted(here[name].unique()), most))]
        kept.append(here)
    return pd.concat(kept)


def draw(frames: TrialFrames, cells: pd.DataFrame) -> Figure:
    """Accuracy in percent for each noise multiplier and clipping norm, a panel a batch size."""
    batch_sizes = sorted(cells["batch_size"].unique())
    most = 100 * cells["test_accuracy"].max()
    least = max(100 * cells["test_accuracy"].min(), parts.floor(cells["test_accuracy"]))
    scale = Normalize(min(least, most - _LEAST_SPAN), most, clip=True)
    noises = max(3, cells.groupby("batch_size")["noise_multiplier"].nunique().max())
    with parts.style():
        figure, panels = parts.panels(
            len(batch_sizes), height=0.4 + 0.11 * noises, width=1.1, share_y=False
        )
        for panel, batch_size in zip(panels, batch_sizes, strict=True):
            _draw_cells(panel, cells[cells["batch_size"] == batch_size], scale)
            panel.set_title(f"batch size {batch_size:,}")
            panel.set_xlabel("max_grad_norm")
        for panel in panels[:: parts.COLUMNS]:
            panel.set_ylabel("noise_multiplier\n(and epsilon)")
        figure.suptitle(
            f"test accuracy on {parts.names(frames.trials['dataset'])} (%)", fontsize=11
        )
    return figure


def _draw_cells(panel: Axes, cells: pd.DataFrame, scale: Normalize) -> None:
    import seaborn as sns

    table = 100 * cells.pivot_table("test_accuracy", "noise_multiplier", "max_grad_norm")
    sns.heatmap(  # an empty cell was not trained
        table,
        ax=panel,
        cmap="cividis",
        norm=scale,
        annot=True,
        fmt=".1f",
        annot_kws={"fontsize": 9},
        cbar=False,
        xticklabels=[quantities.short(clip) for clip in table.columns],
        yticklabels=[_row_label(here) for _, here in cells.groupby("noise_multiplier")],
    )
    panel.invert_yaxis()
    panel.tick_params(labelsize=9, rotation=0)


def _row_label(row: pd.DataFrame) -> str:
    """The noise multiplier, and the epsilon of its cells where it is one."""
    noise = quantities.short(row["noise_multiplier"].iloc[0])
    if np.isinf(row["epsilon"]).any() or row["epsilon"].nunique() > 1:
        return noise
    epsilon = quantities.short(float(f"{row['epsilon'].iloc[0]:.2g}"))
    return f"{noise} (eps {epsilon})"


def alternative(frames: TrialFrames, cells: pd.DataFrame) -> str:
    """The least and the most accurate cell."""
    worst, best = (
        cells.loc[index]
        for index in (cells["test_accuracy"].idxmin(), cells["test_accuracy"].idxmax())
    )
    return (
        "A table of test accuracies coloured by their value, from "
        + " to ".join(
            f"{100 * cell['test_accuracy']:.1f} % at noise multiplier "
            f"{cell['noise_multiplier']:g}, clipping norm {cell['max_grad_norm']:g} and batch size "
            f"{cell['batch_size']}"
            for cell in (worst, best)
        )
        + "."
    )


def notes(frames: TrialFrames, cells: pd.DataFrame) -> Iterator[str]:
    """How much of a difference may be chance, and which noise multipliers are not drawn."""
    yield from figure_caveats.of_seeds(frames.trials)
    yield from figure_caveats.of_arms(frames.trials)
    yield from figure_caveats.of_levels(frames.trials, cells)


SPEC = FigureSpec(
    order=20,
    frames=TrialFrames,
    title="Accuracy over noise and clipping",
    caption="Test accuracy in percent at the last epoch, a cell for each noise multiplier and "
    "clipping norm: the best setting there, of those with Poisson batches where there are any. "
    "Noise 0 clips only. All cells far below the better half have the darkest colour.",
    missing="Nothing to draw: no private trial has finished.",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=notes,
)
