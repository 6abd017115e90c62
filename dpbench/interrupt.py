"""How a command is asked to end: Ctrl-C, SIGTERM, and the terminal that goes away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def heeded() -> Iterator[None]:
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
