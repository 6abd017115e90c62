"""Memory that a process frees, kept for its next step.

glibc returns a large block to the system when it is freed, and has it faulted in anew, page by
page, when the next step asks for the same. How large is large depends on what the process has freed
before, so that the same steps take up to a third longer in one process than in another.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # M_..., malloc.h
_KEPT = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
# where its thresholds end up in a process that frees large blocks; once set they move no more
_USUAL = ((_MMAP_MAX, 65_536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))


@contextmanager
def kept() -> Iterator[None]:
    """Has this process, in all its threads, keep what it frees meanwhile; not to be nested.

    Does nothing but under glibc.
    """
    _set(_KEPT)
    try:
        yield
    finally:
        _set(_USUAL)


def give_back() -> None:
    """Returns to the system what this process has freed and kept; nothing but under glibc."""
    malloc_trim = _library("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _set(options: tuple[tuple[int, int], ...]) -> None:
    mallopt = _library("mallopt")
    if mallopt is not None:
        for option in options:
            mallopt(*option)


@cache
def _library(function: str) -> Callable[..., int] | None:
    """The C library's function of that name, if it has one."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    return getattr(library, function, None)
