"""Test accuracy over noise multipliers and clipping norms, as numbers in cells."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from dpbench import analysis
from dpbench.figures import parts

_MOST = 10  # levels along a side, for the numbers to be read


def accuracy_cells_numbers(trials: pd.DataFrame) -> pd.DataFrame:
    """What `accuracy_cells` draws: of each cell the best arm at its last epoch.

    Poisson batches where the store has any; rows of `analysis.over_seeds`. Of more levels than can
    be read, those evenly between the first and the last.
    """
    rows = analysis.private(analysis.final(trials))
    poisson = rows[rows["sampling"] == "poisson"]
    arms = analysis.over_seeds(poisson if len(poisson) else rows)
    ordered = arms.sort_values(analysis.chosen_by(arms), kind="stable")
    cell = ["batch_size", "noise_multiplier", "max_grad_norm"]
    cells = ordered.drop_duplicates(cell, keep="last").sort_values(cell)
    for name, most in zip(cell, (2 * parts.COLUMNS, _MOST, _MOST), strict=True):
        cells = cells[cells[name].isin(parts.few(sorted(cells[name].unique()), most))]
    return cells


def accuracy_cells(trials: pd.DataFrame) -> Figure:
    """Accuracy in percent for each noise multiplier and clipping norm, a panel a batch size.

    Args:
        trials: Rows of `store.read_trials`; at least one private arm that has finished.
    """
    cells = accuracy_cells_numbers(trials)
    batch_sizes = sorted(cells["batch_size"].unique())
    noises = sorted(cells["noise_multiplier"].unique())
    clips = sorted(cells["max_grad_norm"].unique())
    scale = Normalize(100 * cells["test_accuracy"].min(), 100 * cells["test_accuracy"].max())
    with parts.style():
        height = 0.35 + 0.1 * len(noises)
        figure, panels = parts.panels(len(batch_sizes), height=height)
        for panel, batch_size in zip(panels, batch_sizes, strict=True):
            here = cells[cells["batch_size"] == batch_size]
            table = here.pivot_table("test_accuracy", "noise_multiplier", "max_grad_norm")
            _draw(panel, 100 * table.reindex(index=noises, columns=clips), scale)
            panel.set_title(f"batch size {batch_size:,}")
            panel.set_xlabel("max_grad_norm")
        for panel in panels[:: parts.COLUMNS]:
            panel.set_ylabel("noise_multiplier")
        figure.suptitle(f"test accuracy on {parts.names(trials['dataset'])} (%)", fontsize=10)
    return figure


def _draw(panel: Axes, table: pd.DataFrame, scale: Normalize) -> None:
    panel.grid(visible=False)
    panel.imshow(table, cmap="cividis", norm=scale, aspect="auto", origin="lower")
    panel.set_xticks(range(len(table.columns)), [f"{clip:g}" for clip in table.columns])
    panel.set_yticks(range(len(table.index)), [f"{noise:g}" for noise in table.index])
    for row, values in enumerate(table.to_numpy()):
        for column, value in enumerate(values):
            if np.isfinite(value):  # an empty cell was not trained
                red, green, blue, _ = colormaps["cividis"](scale(value))
                luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
                panel.text(
                    column,
                    row,
                    f"{value:.1f}",
                    ha="center",
                    va="center",
                    color="black" if luminance > 0.45 else "white",
                )
