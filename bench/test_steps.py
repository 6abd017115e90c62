"""Gates of a step's time and memory, for every built-in model."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from bench import gates
from dpbench import engines, models
from dpbench.measurement import memory, step_timing
from dpbench.trial import DEFAULT_MODEL

MEBIBYTE = 2**20
TABLES = ("overhead", "memory")
BATCH_SIZES = {"64", "256"}  # of the default model


def test_every_private_engine_has_its_limits() -> None:
    wanted = dict.fromkeys(engines.private_names(), BATCH_SIZES)
    for table in TABLES:
        of_default = gates.LIMITS[table][DEFAULT_MODEL]
        assert {name: set(entry) for name, entry in of_default.items()} == wanted


def test_every_model_has_its_limits_or_says_why_not() -> None:
    """Those of `bookkeeping`, and of the model's default engine."""
    ungated = gates.LIMITS["ungated"]
    assert all(ungated.values())
    for table in TABLES:
        gated = gates.LIMITS[table]
        assert sorted([*gated, *ungated]) == sorted(models.names())  # and none is in both
        for model, of_engine in gated.items():
            trial = engines.timing_trial("bookkeeping", gates.workload(model, 64))
            assert {"bookkeeping", engines.fastest(trial)} <= set(of_engine), model


@pytest.mark.parametrize("case", gates.cases("overhead"))
def test_overhead(
    case: tuple[str, str, int, float],
    pairs: int,
    benchmark: Any,
    record_property: Callable[[str, object], None],
) -> None:
    model, engine, batch_size, expected = case
    limit = gates.HEADROOM * expected
    task = gates.workload(model, batch_size)
    look = gates.look_twice(lambda pairs: gates.overhead(engine, task, pairs), limit, pairs)
    record_property("measured", f"{look.ratio:.2f} of {expected}")
    benchmark.extra_info.update(gates.where(engine, model), limit=limit, **asdict(look))
    arm = step_timing.arm(
        engine, task, gates.data(task), 3, physical_batch_size=gates.PHYSICAL_BATCH_SIZE
    )
    benchmark.pedantic(arm.run, args=(3,), rounds=3, warmup_rounds=1)
    assert look.ratio <= limit, (
        f"{engine} on {model} at batch size {batch_size} costs {look}, not {limit:.2f}"
    )


@pytest.mark.parametrize("case", gates.cases("memory"))
def test_memory(
    case: tuple[str, str, int, float], record_property: Callable[[str, object], None]
) -> None:
    model, engine, batch_size, expected = case
    held = memory.resident_growth(
        engine,
        gates.workload(model, batch_size),
        threads=1,
        physical_batch_size=gates.PHYSICAL_BATCH_SIZE,
    )
    if held is None:
        pytest.skip("the system does not tell a process' peak memory")
    limit = gates.HEADROOM * expected
    record_property("measured", f"{held / MEBIBYTE:.1f} of {expected} MiB")
    assert held / MEBIBYTE <= limit, (
        f"{engine} on {model} at {batch_size} holds {held / MEBIBYTE:.1f} MiB, not {limit:.1f}"
    )
