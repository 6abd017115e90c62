"""What makes a process start and end sooner."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For imports: they make many objects and no garbage.

    What is there at the end counts as permanent, and is not looked at again, not even when the
    process ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
