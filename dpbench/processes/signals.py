"""How a command is asked to end: Ctrl-C, SIGTERM, and the terminal that goes away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)
_ASKS = (*_OF_THE_TERMINAL, signal.SIGTERM)


@contextmanager
def handled() -> Iterator[None]:
    """Raises KeyboardInterrupt at the first such signal; the second one ends the process at once.

    The second is the system's own doing, so it needs nothing of a program that is stuck. Processes
    that end with their driver end with it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ASKS}

    def first(_number: int, _frame: FrameType | None) -> None:
        for number in _ASKS:
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in _ASKS:
        if before[number] is not signal.SIG_IGN:  # nohup means it
            signal.signal(number, first)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def blocked() -> Iterator[None]:
    """Keeps Ctrl-C and a hang-up waiting; a process that is started meanwhile has them wait, too.

    Until it says what to do with them (`ignored`), it would print a traceback of its start.
    """
    resource_tracker.ensure_running()  # multiprocessing's; its own start lets go what is held back
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignored() -> None:
    """For a process that leaves them to its driver: a terminal sends them to all."""
    for number in _OF_THE_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_TERMINAL)
