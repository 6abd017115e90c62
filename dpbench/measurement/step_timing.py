"""Engine and batch size -> its step's time beside the non-private step's.

A shared machine's speed drifts by a factor of two; the ratio of two blocks timed one right after
the other keeps its place. So the two are alternated in one process, each pair in the other order
than the one before, and overheads are read from the pairs' ratios. That is done in several fresh
processes (`timing_task.time_engines`), since the ratio differs between processes, too.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from dpbench import engines, models
from dpbench.datasets import Data
from dpbench.engines.protocol import Engine
from dpbench.errors import BadInput
from dpbench.measurement import tutorial
from dpbench.observations import StepTiming
from dpbench.privacy.sampling import poisson_batches
from dpbench.training.loop import at_full_speed, synchronise
from dpbench.trial import NON_PRIVATE, TUTORIAL_ARMS, Trial, Workload

PAIRS = 7  # odd, so that the median is one of them
BLOCK_SECONDS = 0.1  # what the shorter block of a pair takes at least
MAX_STEPS = 200  # in a block; their batches are all in memory
WARM_UP_STEPS = 3
OTHERS_BUSY = 0.1  # of one processor: above it, a timing is not alone

_BUSY = ("user", "nice", "system", "irq", "softirq")  # of a processor's time; Linux has the most

Clock = Callable[[], float]  # seconds since any moment
_Batch = tuple[Tensor, Tensor]


class Arm(Protocol):
    """One side of a pair."""

    def run(self, steps: int) -> None:
        """Takes so many training steps."""
        ...


def measure(
    engine: str,
    workload: Workload,
    data: Data,
    *,
    pairs: int = PAIRS,
    physical_batch_size: int | None = None,
    clock: Clock = time.perf_counter,
) -> list[StepTiming]:
    """One `StepTiming` a pair, on the data's device, at this process' number of threads.

    Without the step's memory, which `memory` measures.

    Both arms start from the same weights. Engines see the same Poisson batches as the baseline,
    already normalised: the step alone is timed. A tutorial's arm is timed end to end, its loader
    included. Noise and clipping bounds do not change a step's speed; both are 1 here.

    Args:
        engine: What is timed.
        workload: What it is timed on.
        data: The workload's dataset, in memory.
        pairs: How many.
        physical_batch_size: Most examples in one forward pass; None for whole batches.
        clock: As of `alternated`.

    Raises:
        BadInput: A tutorial's arm is asked for on a GPU or with another model than its own.
    """
    make = partial(arm, workload=workload, data=data, physical_batch_size=physical_batch_size)
    blocks = alternated(
        lambda steps: make(engine, steps=steps),
        lambda steps: make(NON_PRIVATE, steps=steps),
        device=data.device,
        pairs=pairs,
        clock=clock,
    )
    return [
        StepTiming(
            **asdict(workload),
            engine=engine,
            pair=pair,
            order="engine-first" if each.first else "baseline-first",
            steps=each.steps,
            seconds_per_step=each.seconds_per_step,
            baseline_seconds_per_step=each.baseline_seconds_per_step,
            peak_memory_bytes=None,
            alone=each.alone,
        )
        for pair, each in enumerate(blocks)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A block of steps of an arm and one of its baseline, one right after the other.

    Attributes:
        first: Whether the arm came first.
        steps: Of each block.
        seconds_per_step: Of the arm.
        baseline_seconds_per_step: Of the baseline.
        alone: Whether other processes left the machine alone.
    """

    first: bool
    steps: int
    seconds_per_step: float
    baseline_seconds_per_step: float
    alone: bool


def alternated(
    make: Callable[[int], Arm],
    make_baseline: Callable[[int], Arm],
    *,
    device: str,
    pairs: int = PAIRS,
    clock: Clock = time.perf_counter,
) -> list[Pair]:
    """Pairs of blocks, each in the other order than the one before.

    Args:
        make: The arm that is timed, for runs of up to so many steps.
        make_baseline: Likewise, what it is timed against.
        device: That they run on.
        pairs: How many.
        clock: That a block's seconds are read from.
    """
    both = (make, make_baseline)
    steps = _block_steps([each(WARM_UP_STEPS) for each in both], device, clock)
    timed, baseline = (each(steps) for each in both)
    for each in (timed, baseline):
        each.run(steps)  # all of the batches: on a GPU each size of them is captured once

    found = []
    for pair in range(pairs):
        others = _OtherProcesses()
        if first := pair % 2 == 0:
            seconds = _block_seconds(timed, steps, device, clock)
            baseline_seconds = _block_seconds(baseline, steps, device, clock)
        else:
            baseline_seconds = _block_seconds(baseline, steps, device, clock)
            seconds = _block_seconds(timed, steps, device, clock)
        found.append(
            Pair(
                first=first,
                steps=steps,
                seconds_per_step=seconds / steps,
                baseline_seconds_per_step=baseline_seconds / steps,
                alone=others.busy() < OTHERS_BUSY,
            )
        )
    return found


def arm(
    name: str,
    workload: Workload,
    data: Data,
    steps: int,
    *,
    physical_batch_size: int | None = None,
) -> Arm:
    """The arm of that name, with what it needs for runs of up to so many steps.

    Raises:
        BadInput: A tutorial's arm is asked for on a GPU or with another model than its own.
    """
    if name in TUTORIAL_ARMS:
        if data.device != "cpu":
            raise BadInput(f"Expected {name} to be timed on cpu: its loader feeds no GPU.")
        if workload.model != tutorial.MODEL:
            raise BadInput(
                f"Expected {name} to be timed on {tutorial.MODEL}, not {workload.model}."
            )
        return tutorial.Tutorial(data, workload.batch_size, private=name == "opacus-as-shipped")
    noise = torch.Generator(data.device).manual_seed(0)
    engine = engines.graphed(
        build(engines.timing_trial(name, workload), noise, physical_batch_size), noise=[noise]
    )
    taken = models.taken(workload.model, data, examples=4 * workload.batch_size)
    return EngineArm(engine, batches(workload.batch_size, steps, taken))


class EngineArm:
    """An engine on batches that are drawn and normalised before the clock starts."""

    def __init__(self, engine: Engine, batches: Sequence[_Batch]) -> None:
        self._engine = engine
        self._batches = batches

    def run(self, steps: int) -> None:
        """As `Arm.run`."""
        with at_full_speed():  # as in training
            for inputs, targets in self._batches[:steps]:
                self._engine.step(inputs, targets)


def build(trial: Trial, noise: torch.Generator, physical_batch_size: int | None) -> Engine:
    """The trial's engine on the device of the noise, for timing; see `engines.timing_trial`."""
    model = models.build(trial.model, trial.dataset, seed=0, device=str(noise.device))
    return engines.build(trial, model, noise=noise, physical_batch_size=physical_batch_size)


def batches(batch_size: int, steps: int, data: Data) -> list[_Batch]:
    """Poisson batches for so many steps, prepared, on the data's device."""
    examples = data.train_examples
    drawn = poisson_batches(
        examples=examples, sample_rate=batch_size / examples, rng=np.random.default_rng(0)
    )
    return [
        data.batch(indices)
        for indices in map(torch.from_numpy, islice(drawn, max(steps, WARM_UP_STEPS)))
    ]


def _block_steps(arms: Sequence[Arm], device: str, clock: Clock) -> int:
    """Steps of a block, from the arms' second runs; the first warm them up."""
    for each in arms:
        each.run(WARM_UP_STEPS)
    shorter = min(_block_seconds(each, WARM_UP_STEPS, device, clock) for each in arms)
    return min(MAX_STEPS, max(WARM_UP_STEPS, math.ceil(BLOCK_SECONDS / shorter * WARM_UP_STEPS)))


def _block_seconds(arm: Arm, steps: int, device: str, clock: Clock) -> float:
    """Time of the steps, from an idle device to an idle device."""
    synchronise(device)
    start = clock()
    arm.run(steps)
    synchronise(device)
    return clock() - start


class _OtherProcesses:
    """How busy the rest of the machine has been since this was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._others = self._cpu_seconds()

    def busy(self) -> float:
        """Processors that other processes kept busy, on average."""
        return (self._cpu_seconds() - self._others) / (time.perf_counter() - self._start)

    @staticmethod
    def _cpu_seconds() -> float:
        machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
        everything = sum(getattr(machine, name, 0.0) for name in _BUSY)
        return float(everything - own.user - own.system)
