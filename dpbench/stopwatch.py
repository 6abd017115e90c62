"""Engine and batch size -> its step's time beside the non-private step's.

A shared machine's speed drifts by a factor of two; the ratio of two blocks timed one right after
the other keeps its place. So the two are alternated in one process, each pair in the other order
than the one before, and overheads are read from the pairs' ratios.
"""

import math
import time
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from dpbench import engines, models, tutorial
from dpbench.data import Dataset, normalise
from dpbench.sampling import poisson_batches
from dpbench.train import synchronise
from dpbench.trial import (
    NON_PRIVATE,
    NON_PRIVATE_ENGINES,
    BadInput,
    EngineName,
    StepTiming,
    TimedName,
    Trial,
)

PAIRS = 7  # odd, so that the median is one of them
BLOCK_SECONDS = 0.1  # what the shorter block of a pair takes at least
MAX_STEPS = 200  # in a block; their batches are all in memory
WARM_UP_STEPS = 3
OTHERS_BUSY = 0.1  # of one processor: above it, a timing is not alone

MODEL = "tutorial-cnn"

_Batch = tuple[Tensor, Tensor]


class Arm(Protocol):
    """One side of a pair."""

    def run(self, steps: int) -> None:
        """Takes so many training steps."""
        ...


def measure(
    engine: TimedName,
    batch_size: int,
    dataset: Dataset,
    *,
    pairs: int = PAIRS,
    physical_batch_size: int | None = None,
) -> list[StepTiming]:
    """One `StepTiming` a pair, on the dataset's device, at this process' number of threads.

    Both arms start from the same weights. Engines see the same Poisson batches as the baseline,
    already normalised: the step alone is timed. A tutorial's arm is timed end to end, its loader
    included. Noise and clipping bounds do not change a step's speed; both are 1 here.

    Raises:
        BadInput: A tutorial's arm is asked for on another device than a CPU.
    """
    device = str(dataset.train_labels.device)
    names: tuple[TimedName, TimedName] = (engine, NON_PRIVATE)
    warm = [
        arm(name, batch_size, dataset, WARM_UP_STEPS, physical_batch_size=physical_batch_size)
        for name in names
    ]
    steps = _block_steps(warm, device)
    timed, baseline = (
        arm(name, batch_size, dataset, steps, physical_batch_size=physical_batch_size)
        for name in names
    )
    for each in (timed, baseline):
        each.run(steps)  # all of the batches: on a GPU each size of them is captured once

    timings = []
    for pair in range(pairs):
        others = _OtherProcesses()
        if engine_first := pair % 2 == 0:
            seconds, peak_memory_bytes = _block(timed, steps, device)
            baseline_seconds, _ = _block(baseline, steps, device)
        else:
            baseline_seconds, _ = _block(baseline, steps, device)
            seconds, peak_memory_bytes = _block(timed, steps, device)
        timings.append(
            StepTiming(
                dataset=dataset.name,
                model=MODEL,
                engine=engine,
                batch_size=batch_size,
                pair=pair,
                order="engine-first" if engine_first else "baseline-first",
                steps=steps,
                seconds_per_step=seconds / steps,
                baseline_seconds_per_step=baseline_seconds / steps,
                peak_memory_bytes=peak_memory_bytes,
                alone=others.busy() < OTHERS_BUSY,
            )
        )
    return timings


def arm(
    name: TimedName,
    batch_size: int,
    dataset: Dataset,
    steps: int,
    *,
    physical_batch_size: int | None = None,
) -> Arm:
    """The arm of that name, with what it needs for runs of up to so many steps.

    Raises:
        BadInput: A tutorial's arm is asked for on another device than a CPU.
    """
    match name:
        case "opacus-as-shipped" | "tutorial-non-private":
            if dataset.train_labels.device.type != "cpu":
                raise BadInput(f"Expected {name} to be timed on cpu: its loader feeds no GPU.")
            return tutorial.Tutorial(dataset, batch_size, private=name == "opacus-as-shipped")
        case _:
            batches = _batches(batch_size, steps, dataset)
            return _EngineArm(_build(name, batch_size, dataset, physical_batch_size), batches)


class _EngineArm:
    """An engine on batches that are drawn and normalised before the clock starts."""

    def __init__(self, engine: engines.Engine, batches: Sequence[_Batch]) -> None:
        self._engine = engine
        self._batches = batches

    def run(self, steps: int) -> None:
        for images, labels in self._batches[:steps]:
            self._engine.step(images, labels)


def _build(
    engine: EngineName, batch_size: int, dataset: Dataset, physical_batch_size: int | None
) -> engines.Engine:
    device = str(dataset.train_labels.device)
    trial = Trial(
        dataset=dataset.name,
        engine=engine,
        noise_multiplier=None if engine in NON_PRIVATE_ENGINES else 1.0,
        max_grad_norm=None if engine in NON_PRIVATE_ENGINES else 1.0,
        delta=None if engine in NON_PRIVATE_ENGINES else 1e-5,
        batch_size=batch_size,
        learning_rate=1e-3,  # both arms stay near the same weights
        epochs=1,
    )
    return engines.build(
        trial,
        models.tutorial_cnn(seed=0, device=device),
        noise=torch.Generator(device).manual_seed(0),
        physical_batch_size=physical_batch_size,
    )


def _batches(batch_size: int, steps: int, dataset: Dataset) -> list[_Batch]:
    examples = len(dataset.train_labels)
    drawn = poisson_batches(
        examples=examples, sample_rate=batch_size / examples, rng=np.random.default_rng(0)
    )
    return [
        (normalise(dataset.train_images[indices]), dataset.train_labels[indices])
        for indices in map(torch.from_numpy, islice(drawn, max(steps, WARM_UP_STEPS)))
    ]


def _block_steps(arms: Sequence[Arm], device: str) -> int:
    """Steps of a block, from the arms' second runs; the first warm them up."""
    for each in arms:
        each.run(WARM_UP_STEPS)
    shorter = min(_block(each, WARM_UP_STEPS, device)[0] for each in arms)
    return min(MAX_STEPS, max(WARM_UP_STEPS, math.ceil(BLOCK_SECONDS / shorter * WARM_UP_STEPS)))


def _block(arm: Arm, steps: int, device: str) -> tuple[float, int | None]:
    """(wall seconds of the steps, peak allocated bytes; None on CPU)."""
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    synchronise(device)
    start = time.perf_counter()
    arm.run(steps)
    synchronise(device)
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated(device) if on_cuda else None


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
        return float(machine.user + machine.system - own.user - own.system)
