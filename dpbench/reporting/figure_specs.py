"""What a figure is, and the figures that can be drawn of some frames.

A figure is one file in `dpbench/reporting/figures` that exports a `FigureSpec` as `SPEC`. The
report, its page and CSV files, and `compare` find it there; nothing else names it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from dpbench import plugins
from dpbench.analysis import comparability
from dpbench.analysis.answers import Answer
from dpbench.privacy.budgets import ANSWER_AT

_PACKAGE = "reporting.figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFrames:
    """What a figure of a store's trials is drawn from.

    Attributes:
        trials: Rows of `comparability.comparable`.
        timings: Rows of `store.read_timings`, of the same dataset and of one device.
        answers: The best settings among the trials.
        confirmations: Rows of trials that had no part in the choice: of the settings that were
            chosen, again, on other seeds; None without any.
    """

    trials: pd.DataFrame
    timings: pd.DataFrame
    answers: Sequence[Answer]
    confirmations: pd.DataFrame | None = None

    @property
    def epsilons(self) -> tuple[float, ...]:
        """The epsilons of the answers; 1, 3 and 8 where there is none."""
        return tuple(dict.fromkeys(each.epsilon_at_most for each in self.answers)) or ANSWER_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingFrames:
    """What a figure of a store's timings is drawn from.

    Attributes:
        timings: Rows of `store.read_timings`, of one dataset, model and device.
    """

    timings: pd.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFrames:
    """What a figure of two compared stores is drawn from; frames have a text column `label`.

    Attributes:
        accuracy: Rows of `differences.accuracy`.
        overhead: Rows of `differences.overhead`.
        epsilon: Rows of `differences.epsilon`.
        tolerance: Fall of accuracy that is allowed, a fraction.
    """

    accuracy: pd.DataFrame
    overhead: pd.DataFrame
    epsilon: pd.DataFrame
    tolerance: float


F = TypeVar("F", TrialFrames, TimingFrames, ComparisonFrames)


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureSpec(Generic[F]):
    """A figure. Its files have the name of the file that exports it.

    Attributes:
        order: Its place among the figures of the same frames; the smallest is first.
        frames: What it is drawn from.
        title: The heading above it.
        caption: How to read it.
        missing: Why there is nothing to draw where `numbers` has no row.
        numbers: The frame that is drawn and written as CSV; no row where there is nothing to draw.
        draw: The figure of these numbers.
        alternative: What the figure shows, for readers who cannot see it.
        notes: What the figure cannot say.
    """

    order: int
    frames: type[F]
    title: str
    caption: str
    missing: str
    numbers: Callable[[F], pd.DataFrame]
    draw: Callable[[F, pd.DataFrame], Figure]
    alternative: Callable[[F, pd.DataFrame], str]
    notes: Callable[[F, pd.DataFrame], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure with its text, or why there is nothing to draw.

    Attributes:
        name: Of its files.
        title: The heading above it.
        caption: How to read it.
        figure: None where there is nothing to draw.
        alternative: What it shows, for readers who cannot see it; or why there is nothing to draw.
        numbers: What it draws; no row where there is nothing.
        notes: What it cannot say.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None
    alternative: str
    numbers: pd.DataFrame
    notes: tuple[str, ...]


def specs(frames: type[F]) -> dict[str, FigureSpec[F]]:
    """The figures that are drawn from such frames, by the names of their files, in order."""
    found = {
        name.replace("-", "_"): plugins.spec(_PACKAGE, name) for name in plugins.names(_PACKAGE)
    }
    ordered = sorted(found.items(), key=lambda item: (item[1].order, item[0]))
    return {name: spec for name, spec in ordered if spec.frames is frames}


def drawn(frames: F, *, of: Sequence[str] = ()) -> list[Drawn]:
    """Every figure of the frames, in order.

    Args:
        frames: What they are drawn from.
        of: What tells them from other frames of the store, for names and titles: model, device.
    """
    name_end = "".join(f"_{each.replace(':', '_').replace('-', '_')}" for each in of)
    title_end = "".join(f", on {each}" for each in of)
    found = []
    for name, spec in specs(type(frames)).items():
        numbers = spec.numbers(frames)
        there = len(numbers) > 0
        found.append(
            Drawn(
                name=f"{name}{name_end}",
                title=f"{spec.title}{title_end}",
                caption=spec.caption,
                figure=spec.draw(frames, numbers) if there else None,
                alternative=spec.alternative(frames, numbers) if there else spec.missing,
                numbers=numbers,
                notes=tuple(spec.notes(frames, numbers)) if there else (),
            )
        )
    return found


def of_store(
    trials: pd.DataFrame,
    timings: pd.DataFrame,
    answers: Sequence[Answer],
    confirmations: pd.DataFrame | None = None,
) -> list[Drawn]:
    """Every figure of a report, in order; those of timings once for each model and device.

    Args:
        trials: Rows of `comparability.comparable`.
        timings: Rows of `store.read_timings`, of the same dataset.
        answers: The best settings among the trials.
        confirmations: As `TrialFrames` has it.
    """
    of_trials = drawn(
        TrialFrames(
            trials=trials,
            timings=comparability.of_most(timings, "device"),
            answers=answers,
            confirmations=confirmations,
        )
    )
    varying = [name for name in ("model", "device") if timings[name].nunique() > 1]
    parts = [part for _, part in timings.groupby(varying, sort=False)] if varying else [timings]
    return of_trials + [
        each
        for part in parts
        for each in drawn(
            TimingFrames(timings=part), of=[str(part[name].iloc[0]) for name in varying]
        )
    ]
