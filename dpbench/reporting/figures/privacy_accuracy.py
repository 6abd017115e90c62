"""Test accuracy against the epsilon spent: where each noise multiplier ends, and the frontier."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpbench.analysis import arm_means, frontier, recommendation, trial_rows
from dpbench.reporting import figure_caveats, quantities, text
from dpbench.reporting.figure_specs import FigureSpec, TrialFrames
from dpbench.reporting.figures import marks, parts

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


def numbers(frames: TrialFrames) -> pd.DataFrame:
    """A row for each marker, ring and step of a frontier.

    Columns: those of `arm_means.over_seeds`; `end`, whether it is a marker: of its batch size,
    noise multiplier, sampling and epochs the best arm, at its last epoch; `frontier`, whether no
    epoch of an arm of its batch size and sampling beats it in both epsilon and accuracy; and
    `best_within`, the least of the epsilons within which it is the best of all arms of its sampling
    (NaN for others).
    """
    curves = arm_means.over_seeds(parts.on_log_axis(frames.trials))
    if curves.empty:
        return curves
    curves["end"] = curves.index.isin(_ends(curves).index)
    curves["frontier"] = False
    for _, here in curves.groupby(["batch_size", "sampling"]):
        curves.loc[frontier.frontier(here).index, "frontier"] = True
    curves["best_within"] = float("nan")
    largest_first = sorted(frames.epsilons, reverse=True)
    for epsilon, sampling in itertools.product(largest_first, curves["sampling"].unique()):
        arms = frontier.last_within(curves[curves["sampling"] == sampling], epsilon)
        if len(arms):
            curves.loc[frontier.best(arms).name, "best_within"] = epsilon
    drawn = curves["end"] | curves["frontier"] | curves["best_within"].notna()
    shown = curves[curves["end"]]["batch_size"]
    return curves[drawn & curves["batch_size"].isin(shown)].reset_index(drop=True)


def draw(frames: TrialFrames, points: pd.DataFrame) -> Figure:
    """Test accuracy against the epsilon spent, a panel for each batch size.

    A marker is a noise multiplier, at the last epoch of its best arm; colour and shape tell the
    clipping norm of that. With several seeds it is their mean, its bar the t interval, and every
    seed a small dot. The stepped line is the frontier over every epoch of every arm, a ring the
    best of all arms within an epsilon that is answered for; the non-private result is a labelled
    line in its band. Arms with shuffled batches are hollow, at the epsilon that holds for them,
    which is for other neighbours, so that they have a frontier, dashed, and rings of their own; a
    dotted line leads there from the epsilon that is quoted where they are taken for Poisson
    batches.
    """
    trials, at = frames.trials, frames.epsilons
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
                marks.draw_end(
                    panel, end, colours[end["max_grad_norm"]], markers[end["max_grad_norm"]]
                )
                marks.draw_seeds(panel, end, trials)
            best = here[here["best_within"].notna()]
            panel.plot(best["epsilon"], 100 * best["test_accuracy"], zorder=4, **_RING)
            for sampling, same in here.groupby("sampling"):
                style = _FRONTIER | {"linestyle": _DASHES[sampling], "zorder": 1.2}
                panel.step(*_frontier(same), where="post", **style)
            marks.draw_baseline(panel, trials, batch_size)
            panel.set_title(f"batch size {batch_size:,}")
            parts.epsilon_axis(panel, points, epsilons.min(), epsilons.max(), at)
        for panel in panels[:: parts.COLUMNS]:
            panel.set_ylabel(f"test accuracy on {parts.names(trials['dataset'])} (%)")
        parts.percent_axis(panels, [end["test_accuracy"] for _, end in ends.groupby("batch_size")])
        parts.legend(figure, _handles(colours, markers, points, at))
    return figure


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
    best = points[points["frontier"]].sort_values("epsilon", kind="stable")
    epsilons, accuracies = list(best["epsilon"]), list(100 * best["test_accuracy"])
    return [*epsilons, points["epsilon"].max()], [*accuracies, accuracies[-1]]


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


def alternative(frames: TrialFrames, points: pd.DataFrame) -> str:
    """What the best settings reach, and the best non-private one."""
    reached = [
        f"{quantities.accuracy(answer.best.accuracy)} within epsilon {answer.epsilon_at_most:g}"
        f"{' with shuffled batches' if answer.sampling == 'shuffle' else ''}"
        for answer in frames.answers
        if answer.best is not None
    ]
    best = f"The best private settings reach {', '.join(reached)}. " if reached else ""
    return (
        "Markers of test accuracy against the epsilon spent, on a log axis, a panel for each "
        f"batch size. {best}{text.baseline(recommendation.baseline(frames.trials))}"
    )


def notes(frames: TrialFrames, points: pd.DataFrame) -> Iterator[str]:
    """Chance, what epsilon does not cover, and what is not drawn."""
    yield from figure_caveats.of_seeds(frames.trials)
    yield from figure_caveats.of_arms(frames.trials)
    yield from figure_caveats.of_search(frames.trials)
    yield from figure_caveats.of_zero(frames.trials)
    yield from figure_caveats.of_levels(frames.trials, points[points["end"]])


SPEC = FigureSpec(
    order=10,
    frames=TrialFrames,
    title="Privacy against accuracy",
    caption="Each marker is a noise multiplier, whose number stands beside it, at the last epoch "
    "of its best setting; up and to the left is better. Bars are 95 % t intervals over seeds, dots "
    "the seeds. The grey step is the frontier: the best accuracy of any epoch that spends no more; "
    "dashed, that of shuffled batches. Rings are the settings of the answers; one without a marker "
    "is of an earlier epoch. An accuracy far below the better half is "
    "counted below its panel.",
    missing="Nothing to draw: no private trial has finished an epoch and spent an epsilon above 0.",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=notes,
)
