"""The drawn artists hold the frame's numbers."""

import artists
import numpy as np
import pandas as pd
import pytest
from artists import lines
from factories import timings
from matplotlib.figure import Figure

from dpbench import engines
from dpbench.reporting.figure_specs import TimingFrames
from dpbench.reporting.figures import parts
from dpbench.trial import TUTORIAL_ARMS


def draw(name: str, timed: pd.DataFrame) -> Figure:
    return artists.draw(name, TimingFrames(timings=timed))


def rows(ratios: list[float]) -> pd.DataFrame:
    return timings(ratios).assign(dataset="digits", device_name="a processor", threads=1)


def test_every_pair_is_a_dot_and_there_is_a_line_at_one() -> None:
    drawn = draw("overhead", rows([3, 1, 2, 9, 2.5, 2.2, 2.1, 2.3, 2.4]))
    ratio, speed = drawn.axes
    (dots, *_) = ratio.collections
    assert sorted(np.asarray(dots.get_offsets())[:, 1]) == pytest.approx(
        [1, 2, 2.1, 2.2, 2.3, 2.4, 2.5, 3, 9]
    )
    assert ([0.0, 1.0], [1.0, 1.0]) in lines(ratio)
    assert ([0.0], pytest.approx([2.3])) in lines(ratio)
    assert drawn.get_supxlabel() == "tutorial-cnn on digits, a processor, 1 thread"
    assert ([0.0], pytest.approx([6400.0])) in lines(speed)


def test_every_process_is_a_dot_where_there_are_several() -> None:
    of_two = rows([1, 2, 9, 3, 4, 5]).assign(process=[0, 0, 0, 1, 1, 1])
    (dots, *_) = draw("overhead", of_two).axes[0].collections
    assert np.asarray(dots.get_offsets())[:, 1] == pytest.approx([2, 4])


def test_ratios_far_apart_are_drawn_on_a_log_axis() -> None:
    far = pd.concat([rows([1.1] * 3).assign(engine="bookkeeping"), rows([20.0] * 3)])
    assert draw("overhead", far).axes[0].get_yscale() == "log"
    assert draw("overhead", rows([5.0] * 3)).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("name", ["overhead", "step_memory"])
def test_where_it_was_timed_is_named_once_and_within_the_figure(name: str) -> None:
    """A user's model and a processor with a long name, in two columns of panels."""
    of_user = rows([1, 2, 3]).assign(
        model="classifier.py:make(width=16)",
        dataset="measurements.py:load",
        device_name="AMD EPYC (family 25, model 17, stepping 1) with a longer name than most",
    )
    drawn = draw(name, pd.concat([of_user, of_user.assign(engine="bookkeeping")]))
    drawn.draw_without_rendering()
    (text,) = [each for each in drawn.texts if "stepping" in each.get_text()]
    assert "classifier.py:make(width=16) on measurements.py:load" in text.get_text()
    box, whole = text.get_window_extent(), drawn.bbox
    assert whole.x0 <= box.x0
    assert box.x1 <= whole.x1
    assert "stepping" not in "".join(panel.get_xlabel() for panel in drawn.axes)


def test_memory_is_a_figure_of_its_own() -> None:
    (panel,) = draw("step_memory", rows([1, 2, 3])).axes
    assert ([0.0], [1.0]) in lines(panel)  # MiB
    assert panel.get_ylabel() == "memory of a step (MiB)"


def test_lines_are_named_at_their_ends_and_no_panel_holds_more_than_six() -> None:
    every = pd.concat(
        rows([0.5 + index, 1 + index, 1.5 + index]).assign(
            engine=name, peak_memory_bytes=(3 + index) * 2.0**20
        )
        for index, name in enumerate((*engines.names(), *TUTORIAL_ARMS))
    )
    figure = draw("overhead", every)
    named = [{text.get_text() for text in panel.texts} for panel in figure.axes]
    own = {"fused-non-private", "fused", "bookkeeping"}
    opacus = {name for name in engines.names() if name.startswith("opacus-")}
    expected = [group | {"non-private"} for group in (own, opacus, {*TUTORIAL_ARMS})]
    assert named == 2 * expected
    assert all(len(names) <= parts.MOST_LINES for names in named)
    assert [panel.get_yscale() for panel in figure.axes] == 3 * ["linear"] + 3 * ["log"]
    loops = figure.axes[5]
    styles = {line.get_label(): line.get_linestyle() for line in loops.get_lines()}
    assert styles == dict.fromkeys(TUTORIAL_ARMS, ":") | {"non-private": "--"}
    memory = draw("step_memory", every).axes
    assert ([0.0], [3.0]) in lines(memory[0])


def test_an_engine_looks_the_same_in_every_store() -> None:
    def colours(*engines: str) -> dict[str, str]:
        timed = pd.concat(rows([1.0, 2.0, 3.0]).assign(engine=name) for name in engines)
        return {
            str(line.get_label()): f"{line.get_color()} {line.get_marker()}"
            for panel in draw("step_memory", timed).axes
            for line in panel.get_lines()
        }

    few, many = colours("opacus-ghost", "fused"), colours(*engines.names())
    assert few == {name: many[name] for name in few}
    assert many["fused"] != many["fused-non-private"]


def test_the_marker_of_next_to_no_memory_is_not_cut_by_the_axis() -> None:
    tiny = rows([1, 2, 3]).assign(engine="fused", peak_memory_bytes=1.0)
    (panel,) = draw("step_memory", tiny).axes
    assert not any(line.get_clip_on() for line in panel.get_lines())


def test_names_at_the_ends_of_near_lines_keep_apart() -> None:
    near = pd.concat(
        [
            rows([2.0 + index / 1000] * 3).assign(engine=engine)
            for index, engine in enumerate(("opacus-hooks", "opacus-ew", "opacus-ghost"))
        ]
    )
    ratio = draw("overhead", near).axes[0]
    heights = sorted(text.get_position()[1] for text in ratio.texts)
    assert min(np.diff(heights)) >= 10.9  # points
