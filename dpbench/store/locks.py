"""The lock of a store's writers, and what happens on a file system without locks."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock

_log = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Waits for the lock file and holds it; the system releases it when the process ends."""
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire()
    except OSError as error:
        warn_without_locks(error, path.parent)
    try:
        yield
    finally:
        lock.release()


def warn_without_locks(error: OSError, folder: Path) -> None:
    """Warns once if the error says that the file system has no locks; else raises it."""
    if error.errno not in _NO_LOCKS:
        raise error
    _warn_once(folder)


@cache
def _warn_once(folder: Path) -> None:
    _log.warning("%s has no file locks: run one sweep at a time into this store.", folder)
