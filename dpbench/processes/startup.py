"""Garbage collection where a process starts and ends, a third of the time that either takes.

Imports make many objects and no garbage, and what is there at the end need not be searched for any.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 100_000  # more, between two collections, than most commands make


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For imports at the start of a process; what is there at the end counts as permanent."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """For a whole command, and the end of its process."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)
