import multiprocessing
import platform
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from dpbench.training import malloc

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone")


WARM_UP = 20  # times until the allocator has found a place that it keeps to


def in_a_new_process(measure: Callable[[], int]) -> int:
    """What an old one has freed before lies about in its heap, and is faulted in block by block."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure).result()


def faults(times: int) -> int:
    """Page faults, of thousands a time, while a block of 64 MiB comes and goes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(64 << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def meanwhile() -> int:
    with malloc.kept():
        faults(WARM_UP)
        return faults(5)


def afterwards() -> int:
    with malloc.kept():
        faults(WARM_UP)
    torch.ones(32 << 18)  # as it is freed, what lies free above goes with it
    return faults(5)


@glibc
def test_what_is_freed_meanwhile_is_used_again() -> None:
    assert in_a_new_process(meanwhile) < 1_000


@glibc
def test_afterwards_it_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)  # large pages fault in less often
    assert in_a_new_process(afterwards) > 5_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_name: None) -> object:
        raise OSError

    monkeypatch.setattr("ctypes.CDLL", none)
    malloc._library.cache_clear()
    try:
        with malloc.kept():
            malloc.give_back()
            assert malloc._library("mallopt") is None
    finally:
        malloc._library.cache_clear()
