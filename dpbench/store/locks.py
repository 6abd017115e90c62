"""Locks of a store: one writer at a time, and one sweep for each trial that is running.

The system drops them when their process ends, however it ends, so none is ever stale. On a file
system without locks two sweeps at once may run the same trials; it is said once.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_log = logging.getLogger(__name__)

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock that the file stands for, once whoever holds it has let it go."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            _excuse(error, path.parent)
        yield
    finally:
        os.close(descriptor)


class Claims:
    """The trials that this process runs: a lock on one byte each of a file without content.

    Such a lock ends when its process closes the file anywhere, so it is opened here only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def close(self) -> None:
        """Lets all of them go."""
        os.close(self._descriptor)

    def take(self, key: str) -> bool:
        """Whether nobody else holds the key, some hex digits; from now on this process does."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            _excuse(error, self._path.parent)
        return True

    def give_back(self, key: str) -> None:
        """Lets the key go."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _byte(key))
        except OSError as error:
            _excuse(error, self._path.parent)


def _byte(key: str) -> int:
    return int(key[:15], 16)  # 60 bits: offsets end at 63


def _excuse(error: OSError, folder: Path) -> None:
    """Says that there are no locks; raises whatever else it is."""
    if error.errno not in _WITHOUT_LOCKS:
        raise error
    _warn_once(folder)


@cache
def _warn_once(folder: Path) -> None:
    _log.warning("%s has no file locks: run one sweep at a time into this store.", folder)
