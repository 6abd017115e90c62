"""The signals that end a command: SIGINT (Ctrl-C), SIGTERM, and SIGHUP of a closed terminal.

A system without one of them, or without masks of signals, as Windows, has the others.
"""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

_TERMINAL = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))
_HAS_MASKS = hasattr(signal, "pthread_sigmask")
_ENDING = (*_TERMINAL, signal.SIGTERM)
_PATIENCE_SECONDS = 10.0


@contextmanager
def handled() -> Iterator[None]:
    """Raises KeyboardInterrupt at the first such signal; the second one ends the process at once.

    The second has the system's default handler, so it also ends a program that is stuck, and with
    it the processes that end with their driver.

    The interrupt waits, for ten seconds at most, for the end of an import and of `blocked`. An
    import that it breaks off leaves its lock held, for which a thread that imports the same module
    waits forever. One that is raised where nothing can catch it, as in `__del__`, is raised again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # those that nohup ignores stay so
    before = {
        number: handler
        for number in _ENDING
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }
    hook = sys.unraisablehook
    waits_until: float | None = None
    again = threading.Event()

    def first(number: int, frame: FrameType | None) -> None:
        nonlocal waits_until
        second = waits_until is not None and not again.is_set()
        again.clear()
        if waits_until is None:
            waits_until = time.monotonic() + _PATIENCE_SECONDS
        if not second and time.monotonic() < waits_until and _cannot_end_here(frame):
            _thread.start_new_thread(send_again, (number,))  # a Thread takes a lock, perhaps ours
            return
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        if second:
            signal.raise_signal(number)
        raise KeyboardInterrupt

    def send_again(number: int) -> None:
        time.sleep(0.02)
        again.set()
        _send_to_main_thread(number)

    def unraisable(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)
            return
        handle()
        _thread.start_new_thread(send_again, (signal.SIGINT,))

    def handle() -> None:
        for number in before:
            signal.signal(number, first)

    handle()
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _cannot_end_here(frame: FrameType | None) -> bool:
    """Whether the main thread imports, or is in `blocked` and another thread took the signal."""
    if _HAS_MASKS and not signal.pthread_sigmask(signal.SIG_BLOCK, ()).isdisjoint(_TERMINAL):
        return True
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _send_to_main_thread(number: int) -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)  # wakes it where it waits
    else:
        _thread.interrupt_main(signal.Signals(number))


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
