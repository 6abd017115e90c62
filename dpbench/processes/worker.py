"""What a worker process does: takes tasks from its driver, and sends back what they yield.

It ends with its driver, however that ends, and leaves word of where it was when it dies.
"""

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Literal

import psutil

from dpbench.processes import signals

Message = tuple[Literal["ready", "item", "end"], Any]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_WATCH_SECONDS = 0.5


def serve(
    driver: int,
    tasks: Connection,
    last_words: Connection,
    prepare: Callable[[], None],
    work: Callable[..., Iterator[Any]],
) -> None:
    """Does one task after the other until the driver closes the connection, or dies.

    Args:
        driver: Its process id.
        tasks: Arguments of `work` come in, messages go out: `ready`, and for each task an `item`
            for each that it yields, and `end`.
        last_words: Takes the stack of a process that dies by a fault of its own, or that is asked
            for it by SIGUSR1, even where it is stuck in compiled code.
        prepare: What to do before the first task: slow imports.
        work: What a task is.
    """
    _die_with(driver)
    signals.ignored()
    faulthandler.enable(last_words.fileno(), all_threads=False)
    faulthandler.register(signal.SIGUSR1, last_words.fileno(), all_threads=False)
    try:
        prepare()
        tasks.send(("ready", None))
        while True:
            for item in work(*tasks.recv()):
                tasks.send(("item", item))
            tasks.send(("end", None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the driver has no more to do


def _die_with(driver: int) -> None:
    if sys.platform == "linux":  # the kernel sees to it, whatever this process is doing
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(driver,), daemon=True).start()


def _watch(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def end_with(driver: int) -> None:
    """Ends this process when the driver has, which need not have started it itself."""
    signals.ignored()
    known = psutil.Process(driver)  # with the time of its start: its id may be used again

    def watch() -> None:
        while known.is_running():
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
