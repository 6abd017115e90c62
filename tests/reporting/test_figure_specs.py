"""Figures are found by their files."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from artists import of_trials
from factories import frame, make_trial, timings

from dpbench import plugins
from dpbench.reporting import figure_specs, figures
from dpbench.reporting.figure_specs import ComparisonFrames, TimingFrames, TrialFrames

NEW = """
from dpbench.reporting.figure_specs import FigureSpec, TrialFrames
from matplotlib.figure import Figure

SPEC = FigureSpec(
    order=0,
    frames=TrialFrames,
    title="New",
    caption="A new figure.",
    missing="Nothing.",
    numbers=lambda frames: frames.trials[["test_accuracy"]],
    draw=lambda frames, numbers: Figure(),
    alternative=lambda frames, numbers: "A figure.",
    notes=lambda frames, numbers: ["A note."],
)
"""


KINDS: tuple[Any, ...] = (TrialFrames, TimingFrames, ComparisonFrames)


def test_every_figure_has_its_frames_text_and_place() -> None:
    names = set()
    for kind in KINDS:
        specs = figure_specs.specs(kind)
        names |= set(specs)
        for spec in specs.values():
            assert all((spec.title, spec.caption, spec.missing))
        orders = [spec.order for spec in specs.values()]
        assert orders == sorted(set(orders))
    assert names == {name.replace("-", "_") for name in plugins.names("reporting.figures")}


def test_a_new_file_is_a_new_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "brand_new.py").write_text(NEW)
    known = plugins.names
    found = {"reporting.figures": ("brand-new",)}
    monkeypatch.setattr(plugins, "names", lambda package: found.get(package) or known(package))
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    (drawn,) = figure_specs.drawn(of_trials(frame((make_trial(), 1, 0.9, 2.0))))
    assert (drawn.name, drawn.title, drawn.notes) == ("brand_new", "New", ("A note.",))
    assert list(drawn.numbers["test_accuracy"]) == [0.9]
    assert drawn.figure is not None


def test_without_rows_there_is_no_figure_but_the_reason() -> None:
    none = of_trials(frame((make_trial("non-private"), 1, 0.9, None)))
    for drawn in figure_specs.drawn(none):
        assert drawn.figure is None
        assert drawn.alternative.startswith("Nothing to draw: ")
        assert drawn.notes == ()
    empty = TimingFrames(timings=timings([1.0]).iloc[:0])
    assert {drawn.figure for drawn in figure_specs.drawn(empty)} == {None}


def test_timings_of_several_devices_have_figures_of_their_own() -> None:
    timed = timings([2.0, 3.0]).assign(dataset="digits", device_name="a device", threads=1)
    both = pd.concat([timed, timed.assign(device="cuda:0")])
    trials = frame((make_trial(), 1, 0.9, 2.0))
    names = [drawn.name for drawn in figure_specs.of_store(trials, both, ())]
    assert names[-4:] == [
        "overhead_cpu",
        "step_memory_cpu",
        "overhead_cuda_0",
        "step_memory_cuda_0",
    ]


def test_timings_of_several_models_are_not_mixed() -> None:
    timed = timings([2.0, 3.0]).assign(dataset="digits", device_name="a device", threads=1)
    other = timings([8.0, 9.0]).assign(dataset="digits", device_name="a device", threads=1)
    both = pd.concat([timed, other.assign(model="mlp")])
    drawn = figure_specs.of_store(frame((make_trial(), 1, 0.9, 2.0)), both, ())[-4:]
    assert [each.name for each in drawn] == [
        "overhead_tutorial_cnn",
        "step_memory_tutorial_cnn",
        "overhead_mlp",
        "step_memory_mlp",
    ]
    assert drawn[0].numbers["overhead_ratio"].item() == pytest.approx(2.5)
    assert drawn[2].numbers["overhead_ratio"].item() == pytest.approx(8.5)
