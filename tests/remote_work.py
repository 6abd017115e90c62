"""Work that tests give to other processes, which find it by the name of this module."""

import os
import time
from collections.abc import Iterator
from typing import Any

from distributed import get_worker

from dpbench.execution import timing_task, trial_task
from dpbench.execution.cluster import remote_calls
from dpbench.trial import Trial


def wait_a_while(trials: tuple[Trial, ...], _workers: object, _requirements: object) -> list[Any]:
    start = time.time()
    time.sleep(0.5)
    return [{"trial_id": each.trial_id, "start": start, "end": time.time()} for each in trials]


def unfit_by_name(trials: tuple[Trial, ...], workers: Any, requirements: Any) -> Any:
    if os.environ.get("UNFIT"):
        return remote_calls.Unfit(worker=get_worker().address, lack="it is unfit")
    return wait_a_while(trials, workers, requirements)


def time_slowly(*_given: object) -> list[Any]:
    time.sleep(4)
    return [{"address": get_worker().address, "engine": "fused", "process": 0}]


def out_of_memory(timing: timing_task.Timing, _process: int) -> Iterator[Any]:
    seen = trial_task.failure(0, MemoryError("not enough memory"))
    yield timing_task.failed_row(timing, seen)
