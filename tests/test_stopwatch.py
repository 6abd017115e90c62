import statistics
from collections.abc import Callable

import pytest
from torch import Tensor

from dpbench import data, engines, stopwatch
from dpbench.trial import StepTiming


def ratio(timings: list[StepTiming]) -> float:
    return statistics.median(t.seconds_per_step / t.baseline_seconds_per_step for t in timings)


def near(measure: Callable[[int], float], expected: float, within: float) -> bool:
    """Whether a ratio is as expected; a second look has three times the pairs of the first."""
    return any(abs(measure(pairs) / expected - 1) < within for pairs in (7, 21))


def test_pairs_alternate_which_arm_comes_first(digits: data.Dataset) -> None:
    timings = stopwatch.measure("opacus-hooks", 32, digits, pairs=4)
    assert [t.pair for t in timings] == [0, 1, 2, 3]
    assert [t.order for t in timings] == 2 * ["engine-first", "baseline-first"]
    assert len({t.steps for t in timings}) == 1
    assert all(t.seconds_per_step > 0 for t in timings)
    assert all(t.baseline_seconds_per_step > 0 for t in timings)


def test_the_baseline_against_itself_costs_one(digits: data.Dataset) -> None:
    assert near(
        lambda pairs: ratio(stopwatch.measure("non-private", 64, digits, pairs=pairs)),
        1,
        within=0.25,
    )


def test_an_engine_made_twice_as_slow_is_seen(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = engines.build

    class Slow:
        """Takes each step twice; one that waits would leave a busy machine to the baseline."""

        def __init__(self, engine: engines.Engine) -> None:
            self._engine = engine

        def step(self, images: Tensor, labels: Tensor) -> Tensor:
            self._engine.step(images, labels)
            return self._engine.step(images, labels)

    def slow_hooks(trial, model, **knobs):  # type: ignore[no-untyped-def]
        engine = build(trial, model, **knobs)
        return Slow(engine) if trial.private else engine

    plain = ratio(stopwatch.measure("opacus-hooks", 64, digits))
    monkeypatch.setattr(engines, "build", slow_hooks)
    assert near(
        lambda pairs: ratio(stopwatch.measure("opacus-hooks", 64, digits, pairs=pairs)),
        2 * plain,
        within=0.35,
    )
