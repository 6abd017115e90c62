"""What gates share: the limits, a second look, and what goes with a figure."""

import math
import statistics
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dpbench import engines, models
from dpbench.analysis import step_overhead
from dpbench.datasets import Data
from dpbench.measurement import environment, step_timing
from dpbench.trial import Workload

LIMITS: Mapping[str, Any] = tomllib.loads(
    (Path(__file__).parent / "limits.toml").read_text(encoding="utf-8")
)
HEADROOM = float(LIMITS["headroom"])
BY_BATCH_SIZE = ("overhead", "memory", "steps")  # tables of tables
PHYSICAL_BATCH_SIZE = 256  # as the sweep's
FIRST_LOOK, SHORT_LOOK, LONGER = 9, 5, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Paired ratios: their median, its interval, and how many they are."""

    ratio: float
    low: float
    high: float
    pairs: int


def keys() -> Iterator[str]:
    """The name of every limit: `overhead.fused.64`, `sweep.efficiency`, ..."""
    for table, entries in LIMITS.items():
        if table == "headroom":
            continue
        for name, entry in entries.items():
            if table in BY_BATCH_SIZE:
                yield from (f"{table}.{name}.{batch_size}" for batch_size in entry)
            else:
                yield f"{table}.{name}"


def cases(table: str) -> list[Any]:
    """A pytest parameter for each limit of a table; the marker claims it.

    A parameter is (name, batch size, expected) in tables by batch size, else (name, entry).
    """
    found = []
    for name, entry in LIMITS[table].items():
        if table in BY_BATCH_SIZE:
            found += [
                _case(f"{table}.{name}.{size}", name, int(size), expected)
                for size, expected in entry.items()
            ]
        else:
            found.append(_case(f"{table}.{name}", name, entry))
    return found


def _case(key: str, *case: Any) -> Any:
    return pytest.param(case, id=key, marks=pytest.mark.gate(key))


def look_twice(look: Callable[[int], Look], limit: float, pairs: int) -> Look:
    """The first look, or where it is over the limit, a longer second one."""
    first = look(pairs)
    return first if first.ratio <= limit else look(LONGER * pairs)


def workload(batch_size: int) -> Workload:
    """What engines are timed on: the tutorial's CNN and the digits."""
    return Workload(dataset="digits", model="tutorial-cnn", batch_size=batch_size)


def overhead(engine: str, batch_size: int, dataset: Data, pairs: int) -> Look:
    """The engine's step against the non-private one."""
    timings = step_timing.measure(
        engine, workload(batch_size), dataset, pairs=pairs, physical_batch_size=PHYSICAL_BATCH_SIZE
    )
    rows = pd.DataFrame([asdict(timing) for timing in timings]).assign(device="cpu")
    (row,) = step_overhead.overhead(rows).to_dict("records")
    return Look(
        ratio=row["overhead_ratio"],
        low=row["overhead_ratio_low"],
        high=row["overhead_ratio_high"],
        pairs=pairs,
    )


def against(ours: Callable[[], object], plain: Callable[[], object], pairs: int) -> Look:
    """The time of one call over the other's, alternated."""
    ratios = []
    for pair in range(pairs + 1):
        seconds = {}
        for call in (ours, plain) if pair % 2 else (plain, ours):
            start = time.perf_counter()
            call()
            seconds[call] = time.perf_counter() - start
        ratios.append(seconds[ours] / seconds[plain])
    del ratios[0]  # the warm-up
    return Look(ratio=statistics.median(ratios), low=min(ratios), high=max(ratios), pairs=pairs)


def where(engine: str = "fused") -> dict[str, Any]:
    """Versions, hardware and threads, for `benchmark.extra_info`."""
    model = models.build("tutorial-cnn", "mnist", seed=0, device="cpu")
    trial = engines.timing_trial(engine, workload(64))
    implementation = engines.implementation(trial, model)
    row = asdict(
        environment.describe(
            implementation=implementation.name,
            device="cpu",
            threads=1,
            memory_format=engines.memory_format(implementation, "cpu"),
            physical_batch_size=PHYSICAL_BATCH_SIZE,
            workers_beside=0,
        )
    )
    return row | {"started_at": row["started_at"].isoformat()}


def close(value: float | None, expected: float) -> bool:
    """Whether two epsilons are the same to a millionth."""
    return value is not None and math.isclose(value, expected, rel_tol=1e-6)
