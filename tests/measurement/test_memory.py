from pathlib import Path

import pytest
from factories import make_workload

from dpbench.measurement import memory, step_timing

pytestmark = pytest.mark.skipif(not memory._CLEAR.exists(), reason="needs Linux' /proc")

EXAMPLE_GRADIENT = 26_010 * 4  # bytes of one example's whole gradient
MEBIBYTE = 2**20


def growth(engine: str, batch_size: int, physical_batch_size: int | None = None) -> int:
    found = memory.resident_growth(
        engine, make_workload(batch_size), threads=1, physical_batch_size=physical_batch_size
    )
    assert found is not None
    return found


def test_whole_gradients_of_every_example_are_seen() -> None:
    hooks = growth("opacus-hooks", 256)
    assert hooks > 256 * EXAMPLE_GRADIENT
    assert hooks > 2 * growth("non-private", 256)


def test_one_example_at_a_time_needs_next_to_nothing() -> None:
    assert growth("fused", 256) < 2 * MEBIBYTE


def test_physical_batches_bound_it() -> None:
    assert growth("opacus-hooks", 512, 64) < 0.6 * growth("opacus-hooks", 512)


def test_each_is_measured_in_a_process_of_its_own() -> None:
    """A large engine before a small one leaves nothing behind."""
    alone = growth("non-private", 64)
    growth("opacus-hooks", 512)
    assert growth("non-private", 64) == pytest.approx(alone, abs=2 * MEBIBYTE)


def test_what_a_step_holds_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check that the measurement sees memory at all: an arm that holds 50 MiB."""

    class Holds:
        def run(self, steps: int) -> None:
            self.held = bytearray(b"x" * (50 * MEBIBYTE))

    class Nothing:
        def run(self, steps: int) -> None:
            pass

    # here, in this process: a patch does not reach a fresh one
    monkeypatch.setattr(
        step_timing,
        "arm",
        lambda name, workload, *_, **__: Holds() if workload.batch_size == 64 else Nothing(),
    )
    held = memory._grown("fused", make_workload(), 1, None)
    assert held is not None
    assert 50 * MEBIBYTE <= held < 110 * MEBIBYTE


def test_where_the_system_does_not_tell_there_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CLEAR", Path("nowhere"))
    assert (
        memory.resident_growth("fused", make_workload(), threads=1, physical_batch_size=None)
        is None
    )
