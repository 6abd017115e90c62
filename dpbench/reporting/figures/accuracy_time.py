"""Test accuracy within a training time, for each epsilon that is answered for."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dpbench.analysis import arm_means, frontier, trial_rows
from dpbench.reporting import figure_caveats, quantities
from dpbench.reporting.figure_specs import FigureSpec, TrialFrames
from dpbench.reporting.figures import engine_lines, parts
from dpbench.trial import NON_PRIVATE, SAMPLINGS, TIMED_STEP

_STEP = ["model", "engine", "batch_size", *TIMED_STEP]


def numbers(frames: TrialFrames) -> pd.DataFrame:
    """A row for each epoch of an arm that no faster one of its line beats in accuracy.

    Columns: `line`, the epsilon within which the arms of the line stay, or non-private; `seconds`,
    the epoch's steps times the median time of one; those of `arm_means.over_seeds`. The arms are of
    Poisson batches where the store has any.
    """
    private = trial_rows.private(trial_rows.ok(frames.trials))
    if private.empty or frames.timings.empty:
        return pd.DataFrame()
    sampling = next(name for name in SAMPLINGS if name in set(private["sampling"]))
    timed = _timed(arm_means.over_seeds(private[private["sampling"] == sampling]), frames)
    lines = {
        f"epsilon <= {quantities.short(epsilon)}": timed[
            timed["epsilon"] <= epsilon * (1 + frontier.ROUNDING)
        ]
        for epsilon in parts.few(frames.epsilons, parts.MOST_LINES - 1)
    }
    if all(line.empty for line in lines.values()):
        return pd.DataFrame()
    unclipped = trial_rows.unclipped(trial_rows.ok(frames.trials))
    lines[NON_PRIVATE] = _timed(arm_means.over_seeds(unclipped), frames)
    found = [
        frontier.frontier(line, "seconds").assign(line=name)
        for name, line in lines.items()
        if len(line)
    ]
    return pd.concat(found, ignore_index=True)


def _timed(arms: pd.DataFrame, frames: TrialFrames) -> pd.DataFrame:
    """The arms whose step was timed, with the `seconds` of their steps so far."""
    timings = frames.timings.assign(**TIMED_STEP)
    each = timings.groupby(_STEP)["seconds_per_step"].median().rename("step").reset_index()
    timed = arms.merge(each, on=_STEP)
    return timed.assign(seconds=timed["steps"] * timed.pop("step")).dropna(subset="seconds")


def draw(frames: TrialFrames, points: pd.DataFrame) -> Figure:
    """The best accuracy against the seconds of training, a stepped line an epsilon.

    A marker is an epoch of an arm at which a line rises; the non-private line is grey and dashed.
    """
    with parts.style():
        figure, (panel,) = parts.panels(1, width=1.6, height=1.2)
        end = points["seconds"].max()
        for index, (name, line) in enumerate(points.groupby("line", sort=False)):
            style: dict[str, Any] = {  # a smaller epsilon's line is thinner and on top
                "color": parts.COLOURS[index],
                "marker": parts.MARKERS[index],
                "linewidth": 1.5 + 1.5 * index,
                "zorder": 3 - 0.1 * index,
            }
            if name == NON_PRIVATE:
                style |= {"color": parts.GREY, "marker": "", "linestyle": "--", "linewidth": 1.5}
            accuracies = 100 * line["test_accuracy"]
            panel.step(
                [*line["seconds"], end],
                [*accuracies, accuracies.iloc[-1]],
                where="post",
                label=name,
                markersize=4,
                markevery=range(len(line)),
                **style,
            )
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,g}"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel(f"seconds of training steps\n({engine_lines.hardware(frames.timings)})")
        panel.set_ylabel(f"test accuracy on {parts.names(frames.trials['dataset'])} (%)")
        parts.percent_axis([panel], [points["test_accuracy"]], "epoch")
        parts.name_lines(figure, [panel])
    return figure


def alternative(frames: TrialFrames, points: pd.DataFrame) -> str:
    """Where each line ends."""
    ends = points.groupby("line", sort=False).tail(1)
    listed = ", ".join(
        f"{row['line']} {100 * row['test_accuracy']:.1f} % after {row['seconds']:.3g} s"
        for row in ends.to_dict("records")
    )
    return f"Stepped lines of the best test accuracy against training time; they end at: {listed}."


def notes(frames: TrialFrames, points: pd.DataFrame) -> Iterator[str]:
    """What the seconds leave out, and how much of a difference may be chance."""
    yield (
        "Seconds are steps times the median time of a step, timed alone: evaluation, accounting "
        "and start-up are not in them, and trials of the sweep may have run on other hardware."
    )
    trained = trial_rows.ok(frames.trials)[_STEP].drop_duplicates()
    timed = frames.timings.assign(**TIMED_STEP)[_STEP].drop_duplicates()
    untimed = len(trained) - len(trained.merge(timed))
    if untimed:
        yield (
            f"{untimed} of {len(trained)} kinds of steps that were trained were not timed and are "
            "left out (by model, engine, batch size, optimizer and clipping)."
        )
    yield from figure_caveats.of_seeds(frames.trials)


SPEC = FigureSpec(
    order=50,
    frames=TrialFrames,
    title="Accuracy within a training time",
    caption="The best test accuracy that any setting reaches within so many seconds of training "
    "and an epsilon; each marker is an epoch at which a setting takes the lead. Where a line has "
    "gone flat, more time buys nothing at that epsilon.",
    missing="Nothing to draw: it needs private trials within an epsilon of the answers and timings "
    "of their engines (the sweep ran with --no-timing, or is not there yet).",
    numbers=numbers,
    draw=draw,
    alternative=alternative,
    notes=notes,
)
