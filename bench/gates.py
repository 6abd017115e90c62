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
from dpbench.datasets import Data, loading
from dpbench.measurement import environment, step_timing
from dpbench.trial import DEFAULT_MODEL, Workload

LIMITS: Mapping[str, Any] = tomllib.loads(
    (Path(__file__).parent / "limits.toml").read_text(encoding="utf-8")
)
HEADROOM = float(LIMITS["headroom"])
NOT_LIMITS = ("headroom", "ungated")
BY_MODEL = ("overhead", "memory")  # model -> engine -> batch size -> number
BY_BATCH_SIZE = ("steps",)  # name -> batch size -> number
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
    """The name of every limit: `overhead.mlp.bookkeeping.64`, `sweep.efficiency`, ..."""
    for table in LIMITS:
        if table not in NOT_LIMITS:
            yield from (key for key, *_ in _entries(table))


def cases(table: str) -> list[Any]:
    """A pytest parameter for each limit of a table; the marker claims it.

    A parameter is (model, engine, batch size, expected) in tables by model, (name, batch size,
    expected) in those by batch size, else (name, entry).
    """
    return [_case(key, *case) for key, *case in _entries(table)]


def _entries(table: str) -> Iterator[tuple[Any, ...]]:
    """Each limit's key, and the case."""
    for name, entry in LIMITS[table].items():
        if table in BY_MODEL:
            for engine, sizes in entry.items():
                for size, expected in sizes.items():
                    yield f"{table}.{name}.{engine}.{size}", name, engine, int(size), expected
        elif table in BY_BATCH_SIZE:
            for size, expected in entry.items():
                yield f"{table}.{name}.{size}", name, int(size), expected
        else:
            yield f"{table}.{name}", name, entry


def _case(key: str, *case: Any) -> Any:
    return pytest.param(case, id=key, marks=pytest.mark.gate(key))


def look_twice(look: Callable[[int], Look], limit: float, pairs: int) -> Look:
    """The first look, or where it is over the limit, a longer second one."""
    first = look(pairs)
    return first if first.ratio <= limit else look(LONGER * pairs)


def workload(model: str, batch_size: int) -> Workload:
    """What engines are timed on: the model and the digits, for models of tokens as tokens."""
    tokens = models.spec(model).layers is None
    dataset = "digits-tokens" if tokens else "digits"
    return Workload(dataset=dataset, model=model, batch_size=batch_size)


def overhead(engine: str, task: Workload, pairs: int) -> Look:
    """The engine's step against the non-private one, by this process' processor time.

    At one thread that is the wall time of an idle machine, and other processes move it less.
    """
    timings = step_timing.measure(
        engine,
        task,
        data(task),
        pairs=pairs,
        physical_batch_size=PHYSICAL_BATCH_SIZE,
        clock=time.process_time,
    )
    rows = pd.DataFrame([asdict(timing) for timing in timings]).assign(device="cpu")
    (row,) = step_overhead.overhead(rows).to_dict("records")
    return Look(
        ratio=row["overhead_ratio"],
        low=row["overhead_ratio_low"],
        high=row["overhead_ratio_high"],
        pairs=pairs,
    )


def data(task: Workload) -> Data:
    """The task's examples, which come with scikit-learn."""
    return loading.load(task.dataset, Path("unused"), "cpu")


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


def where(engine: str = "fused", model: str = DEFAULT_MODEL) -> dict[str, Any]:
    """Versions, hardware and threads, for `benchmark.extra_info`."""
    trial = engines.timing_trial(engine, workload(model, 64))
    built = models.build(model, trial.dataset, seed=0, device="cpu")
    implementation = engines.implementation(trial, built)
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
