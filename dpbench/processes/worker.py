"""What a worker process does: it runs tasks for its driver, and sends back what they yield.

It ends with its driver, however that ends, and writes its stack when it dies.
"""

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback as tracebacks
from collections.abc import Callable, Iterator
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

import psutil

from dpbench.errors import BadInput
from dpbench.processes import signals, startup

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_WATCH_SECONDS = 0.5


class Kind(Enum):
    """What happens to a worker; `worker_pool.Event` has its value."""

    READY = "it waits for its first task"
    ITEM = "its task has yielded the value"
    DONE = "its task has ended"
    REFUSED = "its task has raised the value, a BadInput"
    DIED = "it is gone; the value is a `worker_pool.Death`"


def serve(
    driver: int,
    tasks: Connection,
    traceback: Connection,
    prepare: Callable[[], None],
    work: Callable[..., Iterator[Any]],
) -> None:
    """Runs one task after the other until the driver closes the connection, or dies.

    BadInput that a task raises is sent to the driver. Any other exception ends the process.

    Args:
        driver: Its process id.
        tasks: Receives the arguments of `work`, and sends a kind, value and stack of each event.
        traceback: Gets the stack when the process dies by a fault of its own, or receives SIGUSR1,
            even if it is stuck in compiled code; nothing on Windows.
        prepare: Called before the first task; slow imports.
        work: Runs a task.
    """
    _die_with(driver)
    signals.ignored()
    if sys.platform != "win32":  # where a pipe has no file descriptor
        faulthandler.enable(traceback.fileno(), all_threads=False)
    if hasattr(faulthandler, "register") and hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, traceback.fileno(), all_threads=False)
    try:
        with startup.without_garbage_collection():
            prepare()
        tasks.send((Kind.READY, None, None))
        while True:
            try:
                for item in work(*tasks.recv()):
                    tasks.send((Kind.ITEM, item, None))
            except BadInput as error:
                stack = "".join(tracebacks.format_exception(error))
                tasks.send((Kind.REFUSED, error, stack))
            else:
                tasks.send((Kind.DONE, None, None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the driver has closed the connection


def _die_with(driver: int) -> None:
    """Ends this process when the driver, its parent, has ended."""
    if sys.platform == "linux":  # the kernel does it, even if this process is stuck
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(driver,), daemon=True).start()


def _watch(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def end_with(driver: int) -> None:
    """Ends this process when the driver, which need not be its parent, has ended."""
    signals.ignored()
    known = psutil.Process(driver)  # knows its start, too: its id may be used again

    def watch() -> None:
        while not has_ended(known):
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def has_ended(process: psutil.Process) -> bool:
    """Whether it has ended, though its parent may not have waited for it yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # in between
        return True
