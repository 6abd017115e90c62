"""Gates of a step's time and memory."""

from dataclasses import asdict
from typing import Any

import pytest

from bench import gates
from dpbench import engines
from dpbench.datasets import Data
from dpbench.measurement import memory, step_timing

MEBIBYTE = 2**20
BATCH_SIZES = ("64", "256")


def test_every_private_engine_has_its_limits() -> None:
    wanted = {engine: set(BATCH_SIZES) for engine in engines.private_names()}
    for table in ("overhead", "memory"):
        assert {name: set(entry) for name, entry in gates.LIMITS[table].items()} == wanted


@pytest.mark.parametrize("case", gates.cases("overhead"))
def test_overhead(case: tuple[str, int, float], digits: Data, pairs: int, benchmark: Any) -> None:
    engine, batch_size, expected = case
    limit = gates.HEADROOM * expected
    look = gates.look_twice(
        lambda pairs: gates.overhead(engine, batch_size, digits, pairs), limit, pairs
    )
    benchmark.extra_info.update(gates.where(engine), limit=limit, **asdict(look))
    arm = step_timing.arm(
        engine, gates.workload(batch_size), digits, 3, physical_batch_size=gates.PHYSICAL_BATCH_SIZE
    )
    benchmark.pedantic(arm.run, args=(3,), rounds=3, warmup_rounds=1)
    assert look.ratio <= limit, f"{engine} at batch size {batch_size} costs {look}, not {limit:.2f}"


@pytest.mark.parametrize("case", gates.cases("memory"))
def test_memory(case: tuple[str, int, float]) -> None:
    engine, batch_size, expected = case
    held = memory.resident_growth(
        engine, gates.workload(batch_size), threads=1, physical_batch_size=gates.PHYSICAL_BATCH_SIZE
    )
    if held is None:
        pytest.skip("the system does not tell a process' peak memory")
    limit = gates.HEADROOM * expected
    assert held / MEBIBYTE <= limit, f"{engine} at {batch_size} holds {held / MEBIBYTE:.1f} MiB"
