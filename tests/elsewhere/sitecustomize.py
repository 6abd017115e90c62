"""Takes from every Python process what only POSIX, or only Linux, has.

For a sweep whose PYTHONPATH begins with this folder; its workers inherit that.
"""

import builtins
import ctypes
import faulthandler
import os
import signal
from typing import Any

_TAKEN = ("fcntl", "resource")
_import = builtins.__import__


def _without(name: str, globals: Any = None, *rest: Any, **known: Any) -> Any:  # noqa: A002
    importer = (globals or {}).get("__name__", "")
    if name in _TAKEN and not importer.startswith("psutil"):  # whose part for Linux needs it
        raise ImportError(name)
    return _import(name, globals, *rest, **known)


builtins.__import__ = _without

for holder, name in (
    (signal, "SIGHUP"),
    (signal, "SIGUSR1"),
    (signal, "pthread_sigmask"),
    (faulthandler, "register"),
    (os, "O_DIRECTORY"),
):
    delattr(holder, name)

_symbol = ctypes.CDLL.__getattr__


def _without_renameat2(library: ctypes.CDLL, name: str) -> Any:
    if name == "renameat2":
        raise AttributeError(name)
    return _symbol(library, name)


ctypes.CDLL.__getattr__ = _without_renameat2  # type: ignore[method-assign]
