"""Engine and batch size -> how much memory its steps take, of a process or of a GPU."""

import ctypes
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from dpbench import engines, models
from dpbench.datasets import Data, loading
from dpbench.measurement import step_timing
from dpbench.processes import signals, worker
from dpbench.trial import Workload

Examples = Callable[[int, str], Data]

STEPS = 5
SMALL_BATCH = 8
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"  # what clears VmHWM, by proc(5)


def resident_growth(
    engine: str,
    workload: Workload,
    *,
    threads: int,
    physical_batch_size: int | None,
    examples: Examples | None = None,
) -> int | None:
    """Bytes that training steps of this batch size add to a process' resident memory at most.

    Measured in a fresh process: the largest resident size during five steps, less the resident
    size just before the first. By then the libraries, the model, the batches and the optimizer are
    in memory, and steps on eight examples have loaded the code that a step runs. So it is what the
    steps themselves hold: activations, per-example gradients, workspaces and the allocator's slack;
    for a tutorial's arm also its loader's batches.

    Args:
        engine: Whose steps.
        workload: On what.
        threads: Of the process.
        physical_batch_size: Most examples in one forward pass.
        examples: Called in that process, with the least number of them and the device. None for
            random ones of the dataset's shape; their values do not matter.

    None where the system does not tell (it needs Linux' /proc), or where the process was killed.
    """
    if not _CLEAR.exists():
        return None
    # The server imports torch and opacus once and computes nothing, so that a fork of it is both
    # quick and as fresh as a new interpreter.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    try:
        with ProcessPoolExecutor(
            1, mp_context=context, initializer=worker.end_with, initargs=(os.getpid(),)
        ) as pool:
            with signals.blocked():
                growth = pool.submit(
                    _grown, engine, workload, threads, physical_batch_size, examples
                )
            return growth.result()
    except BrokenProcessPool:
        return None


def allocated_growth(
    engine: str,
    workload: Workload,
    device: str,
    *,
    physical_batch_size: int | None,
    examples: Examples | None = None,
) -> int | None:
    """Bytes that training steps of this batch size add to what is allocated on the GPU at most.

    Of steps that are not captured, since a CUDA graph allocates nothing when it is launched. None
    for a tutorial's arm, which runs on no GPU.
    """
    if engine == "tutorial-non-private" or engine == "opacus-as-shipped":  # noqa: PLR1714  # narrows
        return None
    noise = torch.Generator(device).manual_seed(0)
    trial = engines.timing_trial(engine, workload)
    stepper = step_timing.build(trial, noise, physical_batch_size)
    inputs, targets = _data(workload, device, examples).batch(
        torch.arange(workload.batch_size, device=device)
    )
    for _ in range(step_timing.WARM_UP_STEPS):
        stepper.step(inputs, targets)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    for _ in range(STEPS):
        stepper.step(inputs, targets)
    return torch.cuda.max_memory_allocated(device) - before


def _data(workload: Workload, device: str, examples: Examples | None) -> Data:
    """Examples of the dataset's shape, as the model takes them, enough for a few batches."""
    count = 4 * workload.batch_size + 64
    data = (examples or partial(loading.random, workload.dataset))(count, device)
    return models.taken(workload.model, data)


def _grown(
    engine: str,
    workload: Workload,
    threads: int,
    physical_batch_size: int | None,
    examples: Examples | None = None,
) -> int | None:
    torch.set_num_threads(threads)
    data = _data(workload, "cpu", examples)
    small, whole = (
        step_timing.arm(engine, each, data, STEPS, physical_batch_size=physical_batch_size)
        for each in (replace(workload, batch_size=SMALL_BATCH), workload)
    )
    return growth_of_steps(small, whole)


def growth_of_steps(small: step_timing.Arm, whole: step_timing.Arm) -> int | None:
    """As `resident_growth`, of this process, which has run no such steps.

    Args:
        small: Steps on few examples.
        whole: The steps.
    """
    small.run(step_timing.WARM_UP_STEPS)
    _trim()  # or the steps would use it unseen
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return None
    before = _status_bytes("VmRSS")
    whole.run(STEPS)
    return max(0, _status_bytes("VmHWM") - before)  # the kernel counts in batches of pages


def _trim() -> None:
    """Returns to the system what this process has freed; nothing but under glibc."""
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(field: str) -> int:
    """A size in /proc/self/status, which gives it in kB of 1,024 bytes."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])
