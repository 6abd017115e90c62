"""Figures by their names, and the numbers that their artists hold."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from factories import timings
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpbench.analysis.answers import Answer
from dpbench.reporting import figure_specs
from dpbench.reporting.figure_specs import ComparisonFrames, TimingFrames, TrialFrames

Frames = TypeVar("Frames", TrialFrames, TimingFrames, ComparisonFrames)


def of_trials(trials: pd.DataFrame, at: Sequence[float] = ()) -> TrialFrames:
    """With a timing of each engine and batch size, and an answer at each of these epsilons."""
    settings = trials[["engine", "batch_size"]].drop_duplicates().to_dict("records")
    timed = pd.concat(
        timings([2.0]).assign(device_name="a processor", threads=1, **setting)
        for setting in settings
    )
    answers = [Answer(epsilon_at_most=each, sampling="poisson", best=None) for each in at]
    return TrialFrames(trials=trials, timings=timed, answers=answers)


def numbers(name: str, frames: Frames) -> pd.DataFrame:
    """What the figure of that name draws of the frames."""
    return figure_specs.specs(type(frames))[name].numbers(frames)


def draw(name: str, frames: Frames) -> Figure:
    """The figure of that name."""
    return figure_specs.specs(type(frames))[name].draw(frames, numbers(name, frames))


def lines(panel: Axes) -> list[Any]:
    """(x, y) of every line."""
    return [
        (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in panel.get_lines()
    ]
