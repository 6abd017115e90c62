"""The signals that end a command: SIGINT (Ctrl-C), SIGTERM, and SIGHUP of a closed terminal.

A system without one of them, or without masks of signals, as Windows, has the others.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

_TERMINAL = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))
_HAS_MASKS = hasattr(signal, "pthread_sigmask")
_ENDING = (*_TERMINAL, signal.SIGTERM)


@contextmanager
def handled() -> Iterator[None]:
    """Raises KeyboardInterrupt at the first such signal; the second one ends the process at once.

    The second has the system's default handler, so it also ends a program that is stuck, and with
    it the processes that end with their driver.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}

    def first(_number: int, _frame: FrameType | None) -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in _ENDING:
        if before[number] is not signal.SIG_IGN:  # set by nohup
            signal.signal(number, first)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def blocked() -> Iterator[None]:
    """Blocks SIGINT and SIGHUP; threads and processes that start meanwhile inherit the mask.

    A process that is interrupted before it calls `ignored` would print a traceback.
    """
    if not _HAS_MASKS:
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing's start of it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignored() -> None:
    """Ignores SIGINT and SIGHUP: a terminal sends them to workers, too; the driver handles them."""
    for number in _TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    if _HAS_MASKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERMINAL)
