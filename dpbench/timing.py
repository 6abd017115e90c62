"""Engine and batch size -> its step's time beside the non-private step's.

A shared machine's speed drifts by a factor of two; the ratio of two blocks timed one right after
the other keeps its place. So the two are alternated in one process, each pair in the other order
than the one before, and overheads are read from the pairs' ratios.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import psutil
import torch
from torch import Tensor

from dpbench import engines, models
from dpbench.data import Dataset, normalise, poisson_batches
from dpbench.train import synchronise
from dpbench.trial import NON_PRIVATE, NON_PRIVATE_ENGINES, EngineName, StepTiming, Trial

PAIRS = 7  # odd, so that the median is one of them
BLOCK_SECONDS = 0.1  # what the shorter block of a pair takes at least
MAX_STEPS = 200  # in a block; their batches are all in memory
WARM_UP_STEPS = 3
OTHERS_BUSY = 0.1  # of one processor: above it, a timing is not alone

MODEL = "tutorial-cnn"

_Batch = tuple[Tensor, Tensor]


def measure(
    engine: EngineName,
    batch_size: int,
    dataset: Dataset,
    *,
    pairs: int = PAIRS,
    physical_batch_size: int | None = None,
) -> list[StepTiming]:
    """One `StepTiming` a pair, on the dataset's device, at this process' number of threads.

    Both arms start from the same weights and see the same Poisson batches, already normalised: the
    step alone is timed. Noise and clipping bounds do not change its speed; both are 1 here.
    """
    device = str(dataset.train_labels.device)
    private = _build(engine, batch_size, dataset.name, device, physical_batch_size)
    baseline = _build(NON_PRIVATE, batch_size, dataset.name, device, physical_batch_size)
    steps, batches = _warm_up(private, baseline, batch_size, dataset)

    timings = []
    for pair in range(pairs):
        others = _OtherProcesses()
        if engine_first := pair % 2 == 0:
            seconds, peak_memory_bytes = _block(private, batches, device)
            baseline_seconds, _ = _block(baseline, batches, device)
        else:
            baseline_seconds, _ = _block(baseline, batches, device)
            seconds, peak_memory_bytes = _block(private, batches, device)
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


def _build(
    engine: EngineName,
    batch_size: int,
    dataset: str,
    device: str,
    physical_batch_size: int | None,
) -> engines.Engine:
    trial = Trial(
        dataset=dataset,
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


def _warm_up(
    private: engines.Engine, baseline: engines.Engine, batch_size: int, dataset: Dataset
) -> tuple[int, list[_Batch]]:
    """Runs both arms unmeasured; the steps of a block and the batches for them."""
    device = str(dataset.train_labels.device)
    batches = _batches(batch_size, WARM_UP_STEPS, dataset)
    for arm in (private, baseline):
        _block(arm, batches, device)
    shorter = min(_block(arm, batches, device)[0] for arm in (private, baseline))
    steps = math.ceil(BLOCK_SECONDS / (shorter / WARM_UP_STEPS))
    steps = min(MAX_STEPS, max(WARM_UP_STEPS, steps))
    return steps, _batches(batch_size, steps, dataset)


def _batches(batch_size: int, steps: int, dataset: Dataset) -> list[_Batch]:
    examples = len(dataset.train_labels)
    drawn = poisson_batches(
        examples=examples,
        sample_rate=batch_size / examples,
        steps=steps,
        rng=np.random.default_rng(0),
    )
    return [
        (normalise(dataset.train_images[indices]), dataset.train_labels[indices])
        for indices in map(torch.from_numpy, drawn)
    ]


def _block(arm: engines.Engine, batches: Sequence[_Batch], device: str) -> tuple[float, int | None]:
    """(wall seconds of the steps over the batches, peak allocated bytes; None on CPU)."""
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    synchronise(device)
    start = time.perf_counter()
    for images, labels in batches:
        arm.step(images, labels)
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
