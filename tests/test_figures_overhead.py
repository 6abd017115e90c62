"""The drawn artists hold the frame's numbers."""

import numpy as np
import pandas as pd
import pytest
from test_analysis import timings
from test_figures import lines

from dpbench import figures


def rows(ratios: list[float]) -> pd.DataFrame:
    return timings(ratios).assign(dataset="digits", device_name="a processor", threads=1)


def test_every_pair_is_a_dot_and_there_is_a_line_at_one() -> None:
    drawn = figures.overhead(rows([3, 1, 2, 9, 2.5, 2.2, 2.1, 2.3, 2.4]))
    ratio, speed = drawn.axes
    (dots, *_) = ratio.collections
    assert sorted(np.asarray(dots.get_offsets())[:, 1]) == pytest.approx(
        [1, 2, 2.1, 2.2, 2.3, 2.4, 2.5, 3, 9]
    )
    assert ([0.0, 1.0], [1.0, 1.0]) in lines(ratio)
    assert ([0.0], pytest.approx([2.3])) in lines(ratio)
    assert "a processor, 1 thread" in ratio.get_xlabel()
    assert ([0.0], pytest.approx([6400.0])) in lines(speed)


def test_memory_is_a_figure_of_its_own() -> None:
    (panel,) = figures.step_memory(rows([1, 2, 3])).axes
    assert ([0.0], [1.0]) in lines(panel)  # MiB
    assert panel.get_ylabel() == "memory of a step (MiB)"


def test_lines_are_named_at_their_ends_and_the_tutorials_loops_stand_apart() -> None:
    every = pd.concat(
        [
            rows([2.0, 2.1, 2.2]),
            rows([0.9, 1.0, 1.1]).assign(engine="non-private", peak_memory_bytes=3 * 2.0**20),
            rows([5.0, 5.1, 5.2]).assign(engine="opacus-as-shipped"),
        ]
    )
    ratio, speed, loops, _ = figures.overhead(every).axes
    assert {text.get_text() for text in ratio.texts} == {"opacus-hooks", "non-private"}
    assert {text.get_text() for text in loops.texts} == {"opacus-as-shipped", "non-private"}
    styles = {line.get_label(): line.get_linestyle() for line in speed.get_lines()}
    assert styles == {"opacus-hooks": "-", "non-private": "--"}
    memory, _ = figures.step_memory(every).axes
    assert ([0.0], [3.0]) in lines(memory)


def test_names_at_the_ends_of_near_lines_keep_apart() -> None:
    near = pd.concat(
        [
            rows([2.0 + index / 1000] * 3).assign(engine=engine)
            for index, engine in enumerate(("opacus-hooks", "opacus-ew", "opacus-ghost"))
        ]
    )
    ratio = figures.overhead(near).axes[0]
    heights = sorted(text.get_position()[1] for text in ratio.texts)
    assert min(np.diff(heights)) >= 10.9  # points
