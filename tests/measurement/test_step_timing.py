import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from factories import make_workload
from torch import Tensor

from dpbench import engines
from dpbench.datasets import Data
from dpbench.engines.protocol import Engine
from dpbench.measurement import step_timing
from dpbench.observations import StepTiming


def ratio(timings: list[StepTiming]) -> float:
    return statistics.median(t.seconds_per_step / t.baseline_seconds_per_step for t in timings)


def near(measure: Callable[[int], float], expected: float, within: float) -> bool:
    """Whether a ratio is as expected; a second look has three times the pairs of the first."""
    return any(abs(measure(pairs) / expected - 1) < within for pairs in (7, 21))


def test_pairs_alternate_which_arm_comes_first(digits: Data) -> None:
    timings = step_timing.measure("opacus-hooks", make_workload(32), digits, pairs=4)
    assert [t.pair for t in timings] == [0, 1, 2, 3]
    assert [t.order for t in timings] == 2 * ["engine-first", "baseline-first"]
    assert len({t.steps for t in timings}) == 1
    assert all(t.seconds_per_step > 0 for t in timings)
    assert all(t.baseline_seconds_per_step > 0 for t in timings)


class Logged:
    """An arm that notes when it runs, and how many steps it takes."""

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self._name, self._log = name, log

    def run(self, steps: int) -> None:
        self._log.append((self._name, steps))
        busy_until = time.perf_counter() + 0.003
        while time.perf_counter() < busy_until:
            pass


def test_blocks_run_as_their_order_says_after_a_block_of_warming_up(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[str, int]] = []
    monkeypatch.setattr(step_timing, "arm", lambda name, *_, **__: Logged(name, log))
    timings = step_timing.measure("fused", make_workload(64), digits, pairs=3)
    blocks = log[-8:]  # a warm-up of each, and three pairs
    assert {steps for _, steps in blocks} == {timings[0].steps}
    assert [name for name, _ in blocks[:2]] == ["fused", "non-private"]
    expected = {
        "engine-first": ["fused", "non-private"],
        "baseline-first": ["non-private", "fused"],
    }
    for timing, pair in zip(timings, (blocks[2:4], blocks[4:6], blocks[6:]), strict=True):
        assert [name for name, _ in pair] == expected[timing.order]


@pytest.mark.parametrize("nice", [0, 10])
def test_other_processes_are_seen_at_work(nice: int) -> None:
    code = "import os, sys; os.nice(int(sys.argv[1])); print(flush=True)\nwhile True: pass"
    others = [
        subprocess.Popen([sys.executable, "-c", code, str(nice)], stdout=subprocess.PIPE)
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        watched = step_timing._OtherProcesses()
        time.sleep(1)
        assert watched.busy() > 0.3 * len(others)
    finally:
        for other in others:
            other.kill()
            other.communicate()


def test_the_baseline_against_itself_costs_one(digits: Data) -> None:
    assert near(
        lambda pairs: ratio(
            step_timing.measure("non-private", make_workload(64), digits, pairs=pairs)
        ),
        1,
        within=0.25,
    )


@pytest.mark.slow  # above, the ratio of an engine to itself is 1; gates see a slow engine
def test_an_engine_made_twice_as_slow_is_seen(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = engines.build

    class Slow:
        """Takes each step twice; one that waits would leave a busy machine to the baseline."""

        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def step(self, images: Tensor, labels: Tensor) -> Tensor:
            self._engine.step(images, labels)
            return self._engine.step(images, labels)

    def slow_hooks(trial, model, **knobs):  # type: ignore[no-untyped-def]
        engine = build(trial, model, **knobs)
        return Slow(engine) if trial.private else engine

    plain = ratio(step_timing.measure("opacus-hooks", make_workload(64), digits))
    monkeypatch.setattr(engines, "build", slow_hooks)
    assert near(
        lambda pairs: ratio(
            step_timing.measure("opacus-hooks", make_workload(64), digits, pairs=pairs)
        ),
        2 * plain,
        within=0.35,
    )
