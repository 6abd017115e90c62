"""Optuna is asked anew each time: what it answers depends on what is known, and on nothing else."""

import math
from typing import Any

import pytest

from dpbench import Range
from dpbench.search import sobol
from dpbench.search.space import Space
from dpbench.search.surface import STARTUP, Told, ask

pytest.importorskip("optuna", reason="the extra `optuna` is not installed")

SPACE = Space(
    dimensions={
        "learning_rate": Range(0.01, 100.0, log=True),
        "batch_size": Range(64, 4096, log=True),
        "optimizer": ("sgd", "adam"),
    }
)


def score(setting: dict[str, Any]) -> float:
    """Best at a rate of 1 and a batch of 512, by SGD."""
    rate, size = math.log(setting["learning_rate"]), math.log(setting["batch_size"] / 512)
    return -(rate**2) - size**2 - float(setting["optimizer"] != "sgd")


def told(count: int) -> list[Told]:
    settings = [SPACE.at(point) for point in sobol.points(len(SPACE), count)]
    return [(setting, score(setting)) for setting in settings]


def test_the_same_question_has_the_same_answer_within_the_space() -> None:
    known = told(STARTUP)
    first = ask(SPACE, known, 4, seed=3)
    assert first == ask(SPACE, known, 4, seed=3)
    assert first != ask(SPACE, known, 4, seed=4)
    assert all(map(SPACE.holds, first))
    assert all(SPACE.rounded(setting) == setting for setting in first)


def test_it_finds_better_settings_than_as_many_even_ones() -> None:
    known = told(STARTUP)
    while len(known) < 40:
        known += [(setting, score(setting)) for setting in ask(SPACE, known, 2, seed=len(known))]
    assert max(value for _, value in known) > max(value for _, value in told(40))


def test_a_space_does_not_hold_what_it_cannot_draw() -> None:
    inside = {"learning_rate": 1.0, "batch_size": 64, "optimizer": "sgd"}
    assert SPACE.holds(inside)
    for changed in ({"learning_rate": 101.0}, {"optimizer": "lion"}, {"momentum": 0.0}):
        assert not SPACE.holds(inside | changed)
