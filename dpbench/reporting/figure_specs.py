"""A store's frames -> its figures, each with its words, its numbers and what it cannot say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from dpbench.analysis import loss_parts, recommendation, trial_rows
from dpbench.analysis.answers import Answer
from dpbench.privacy.budgets import ANSWER_AT
from dpbench.reporting import figure_caveats, figures, quantities, text, timing_caveats
from dpbench.reporting.figures import parts
from dpbench.trial import NON_PRIVATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure, or the words where there is nothing to draw.

    Attributes:
        name: Of its files.
        title: Above it.
        caption: How to read it.
        figure: None where there is nothing to draw.
        alternative: What it shows, for who does not see it; or why there is nothing to draw.
        numbers: What it draws; no rows where there is nothing.
        notes: What it cannot say.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None
    alternative: str
    numbers: pd.DataFrame
    notes: tuple[str, ...]


def figures_of(
    trials: pd.DataFrame, timings: pd.DataFrame, answers: Sequence[Answer]
) -> list[Drawn]:
    """Every figure of a report, in its order.

    Args:
        trials: Rows of `comparability.comparable`.
        timings: Rows of `store.read_timings`, of the same dataset.
        answers: What they say, for the figures' alternative texts.
    """
    by_device = [part for _, part in timings.groupby("device", sort=False)] or [timings]
    return [
        *_of_trials(trials, answers),
        *(each for part in by_device for each in _of_timings(part, len(by_device) > 1)),
    ]


def _of_trials(trials: pd.DataFrame, answers: Sequence[Answer]) -> list[Drawn]:
    seeds = tuple(figure_caveats.of_seeds(trials))
    arms = tuple(figure_caveats.of_arms(trials))
    curves = parts.on_log_axis(trials)
    at = tuple(dict.fromkeys(answer.epsilon_at_most for answer in answers)) or ANSWER_AT
    return [
        _drawn(
            name="privacy_accuracy",
            title="Privacy against accuracy",
            caption="Each marker is a noise multiplier, whose number stands beside it, at the last "
            "epoch of its best setting; up and to the left is better. Bars are 95 % t intervals "
            "over seeds, dots the seeds. The grey step is the frontier: the best accuracy of any "
            "epoch that spends no more; dashed, that of shuffled batches. Rings are the "
            "settings of the answers; one without a marker is of an earlier epoch.",
            drawable=len(curves) > 0,
            frame=trials,
            draw=partial(figures.privacy_accuracy, at=at),
            numbers=partial(figures.privacy_accuracy_numbers, at=at),
            alternative=lambda _: _reached(trials, answers),
            missing="Nothing to draw: no private trial has finished an epoch and spent an epsilon "
            "above 0.",
            notes=(
                *seeds,
                *arms,
                *figure_caveats.of_search(trials),
                *figure_caveats.of_zero(trials),
            ),
            more_notes=lambda rows: _thinned(trials, rows[rows["end"]]),
        ),
        _drawn(
            name="accuracy_cells",
            title="Accuracy over noise and clipping",
            caption="Test accuracy in percent at the last epoch, a cell for each noise multiplier "
            "and clipping norm: the best setting there, of those with Poisson batches where there "
            "are any. Noise 0 clips only.",
            drawable=len(trial_rows.private(trial_rows.final(trials))) > 0,
            frame=trials,
            draw=figures.accuracy_cells,
            numbers=figures.accuracy_cells_numbers,
            alternative=_cells,
            missing="Nothing to draw: no private trial has finished.",
            notes=(*seeds, *arms),
            more_notes=lambda rows: _thinned(trials, rows),
        ),
        _drawn(
            name="learning_curves",
            title="Learning curves",
            caption="Test accuracy as training goes on and epsilon is spent: each marker is an "
            "epoch, each line a noise multiplier with the setting that ends best, its band the 95 "
            "% t interval. A curve that has gone flat spends epsilon for nothing.",
            drawable=len(curves) > 0,
            frame=trials,
            draw=partial(figures.learning_curves, at=at),
            numbers=figures.learning_curves_numbers,
            alternative=_curves,
            missing="Nothing to draw: no private trial has finished an epoch and spent an epsilon "
            "above 0.",
            notes=(*_epochs(curves), *seeds, *figure_caveats.of_neighbours(trials)),
            more_notes=lambda rows: _thinned(trials, rows),
        ),
        _drawn(
            name="accuracy_loss",
            title="Clipping loss against noise loss",
            caption="Points of accuracy lost against the non-private setting of the same batch "
            "size, paired by seed: in grey what clipping alone loses, with each noise multiplier "
            "what its noise loses on top of that. Bars are 95 % t intervals.",
            drawable=len(loss_parts.loss_split(trials)) > 0,
            frame=trials,
            draw=figures.accuracy_loss,
            numbers=figures.accuracy_loss_numbers,
            alternative=_losses,
            missing="Nothing to draw: it needs trials that clip without noise (--clip-only) and "
            "non-private ones, of the same seeds.",
            notes=seeds,
            more_notes=figure_caveats.of_gains,
        ),
    ]


def _of_timings(timings: pd.DataFrame, several: bool) -> list[Drawn]:
    """Of one device; named by it where there are several."""
    device = timings["device"].iloc[0] if several else ""
    name_end, title_end = (
        (f"_{device.replace(':', '_')}", f", on {device}") if several else ("", "")
    )
    return [
        _drawn(
            name=f"overhead{name_end}",
            title=f"What a step costs in time{title_end}",
            caption="Above: how many times as long a step takes as the non-private one, both timed "
            "in turn; a dot is the median of a process' pairs (or a pair, where all are of one "
            "process), the marker the median of the dots with its 95 % interval. Below: examples "
            "per second.",
            drawable=bool((timings["engine"] != NON_PRIVATE).any()),
            frame=timings,
            draw=figures.overhead,
            numbers=figures.overhead_numbers,
            alternative=_overheads,
            missing="Nothing to draw: no engine was timed (the sweep ran with --no-timing, or is "
            "not there yet).",
            notes=tuple(timing_caveats.of_timings(timings)),
        ),
        _drawn(
            name=f"step_memory{name_end}",
            title=f"What a step costs in memory{title_end}",
            caption="How far steps raise the memory of a process on a CPU, or what is allocated "
            "on a GPU.",
            drawable=bool(timings["peak_memory_bytes"].notna().any()),
            frame=timings,
            draw=figures.step_memory,
            numbers=figures.overhead_numbers,
            alternative=_memory,
            missing="Nothing to draw: the memory of a step was not measured.",
            notes=(),
        ),
    ]


def _thinned(trials: pd.DataFrame, drawn: pd.DataFrame) -> tuple[str, ...]:
    """Where there are more noise multipliers than can be read: how many are drawn."""
    noises = ["batch_size", "noise_multiplier"]
    every = trial_rows.private(trial_rows.ok(trials))[[*noises, "epsilon"]]
    every = every[every["epsilon"].between(0, float("inf"), inclusive="neither")]
    every = every.drop_duplicates(noises)
    count = len(every.merge(drawn[noises].drop_duplicates()))
    if count == len(every):
        return ()
    return (f"{count} noise multipliers of {len(every):,}, over all batch sizes, are drawn.",)


def _drawn(
    *,
    name: str,
    title: str,
    caption: str,
    drawable: bool,
    frame: pd.DataFrame,
    draw: Callable[[pd.DataFrame], Figure],
    numbers: Callable[[pd.DataFrame], pd.DataFrame],
    alternative: Callable[[pd.DataFrame], str],
    missing: str,
    notes: tuple[str, ...],
    more_notes: Callable[[pd.DataFrame], tuple[str, ...]] = lambda _: (),
) -> Drawn:
    """The figure of the frame, told by `alternative` from its numbers; or why there is none."""
    rows = numbers(frame) if drawable else pd.DataFrame()
    return Drawn(
        name=name,
        title=title,
        caption=caption,
        figure=draw(frame) if drawable else None,
        alternative=alternative(rows) if drawable else missing,
        numbers=rows,
        notes=(*notes, *more_notes(rows)) if drawable else (),
    )


def _epochs(curves: pd.DataFrame) -> tuple[str, ...]:
    one = len(curves) > 0 and curves["epoch"].max() == 1
    return ("One epoch was trained, so each curve is a point.",) if one else ()


def _reached(trials: pd.DataFrame, answers: Sequence[Answer]) -> str:
    reached = [
        f"{quantities.accuracy(answer.best.accuracy)} within epsilon {answer.epsilon_at_most:g}"
        f"{' with shuffled batches' if answer.sampling == 'shuffle' else ''}"
        for answer in answers
        if answer.best is not None
    ]
    best = f"The best private settings reach {', '.join(reached)}. " if reached else ""
    return (
        "Markers of test accuracy against the epsilon spent, on a log axis, a panel for each "
        f"batch size. {best}{text.baseline(recommendation.baseline(trials))}"
    )


def _cells(cells: pd.DataFrame) -> str:
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


def _curves(curves: pd.DataFrame) -> str:
    ends = curves.sort_values("epoch").groupby(trial_rows.ARM, dropna=False).tail(1)
    return (
        f"{len(ends)} lines of test accuracy against the epsilon spent, for batch sizes "
        f"{_listed(curves['batch_size'])} and noise multipliers "
        f"{_listed(curves['noise_multiplier'])}; they end at "
        f"{100 * ends['test_accuracy'].min():.1f} to {100 * ends['test_accuracy'].max():.1f} %."
    )


def _losses(points: pd.DataFrame) -> str:
    clipping, noise = (
        points[points["part"] == part]["points_lost"] for part in ("clipping", "noise")
    )
    return (
        f"Points of accuracy lost over clipping norms. Clipping loses {clipping.min():.1f} to "
        f"{clipping.max():.1f}; the noise on top of it {noise.min():.1f} to {noise.max():.1f}."
    )


def _overheads(summary_rows: pd.DataFrame) -> str:
    medians = summary_rows.groupby("engine", sort=False)["overhead_ratio"].median()
    listed = ", ".join(f"{name} {ratio:.2f}" for name, ratio in medians.items())
    return f"Time of a step over the non-private step's, median over batch sizes: {listed}."


def _memory(summary_rows: pd.DataFrame) -> str:
    known = summary_rows.dropna(subset="peak_memory_bytes")
    most = known.groupby("engine", sort=False)["peak_memory_bytes"].max() / 2**20
    listed = ", ".join(f"{name} {mebibytes:.0f}" for name, mebibytes in most.items())
    return f"Most memory of a step in MiB, over batch sizes: {listed}."


def _listed(values: "pd.Series[float]") -> str:
    levels = [f"{value:g}" for value in sorted(values.unique())]
    return levels[0] if len(levels) == 1 else f"{', '.join(levels[:-1])} and {levels[-1]}"
