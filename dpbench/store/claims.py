"""Claims: several sweeps into one store share out its trials.

A claim is a lock on one byte of the file `claims`, at an offset that the trial's id gives. The
system drops it when its process ends, however it ends, so no claim is ever stale. POSIX byte locks
also work over NFS. On a file system without locks, two sweeps at once may run the same trials; a
warning says so once.

filelock, which guards writing, needs a file for each trial. It takes the place of byte locks where
the system has none, as Windows.
"""

import errno
import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from filelock import FileLock, Timeout

from dpbench.store import files, locks, writer
from dpbench.trial import Trial

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Claim(Enum):
    """What became of a request to run a trial."""

    MINE = "this sweep is to run it"
    BUSY = "another sweep runs it"
    DONE = "another sweep has run it"


class _Locks(Protocol):
    """Locks of trials, which end with their process."""

    def acquire(self, trial_id: str) -> bool:
        """Whether the lock is now this process'; False if another one holds it."""
        ...

    def release(self, trial_id: str) -> None:
        """Lets other processes have it."""
        ...

    def close(self) -> None:
        """Releases all of them."""
        ...


class _ByteLocks:
    """A byte of one file for each trial. A process must open the file only once: see fcntl(2)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder / "claims", os.O_RDWR | os.O_CREAT, 0o666)

    def acquire(self, trial_id: str) -> bool:
        return self._lock(trial_id, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self, trial_id: str) -> None:
        self._lock(trial_id, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)

    def _lock(self, trial_id: str, operation: int) -> bool:
        offset = int(trial_id[:15], 16)  # 60 bits: offsets end at 63
        try:
            fcntl.lockf(self._descriptor, operation, 1, offset)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            locks.warn_without_locks(error, self._folder)
        return True


class _FileLocks:
    """A file for each trial."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, FileLock] = {}

    def acquire(self, trial_id: str) -> bool:
        lock = FileLock(self._folder / f"{trial_id}.claim", mode=0o666)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._held[trial_id] = lock
        return True

    def release(self, trial_id: str) -> None:
        if lock := self._held.pop(trial_id, None):
            lock.release()

    def close(self) -> None:
        for trial_id in list(self._held):
            self.release(trial_id)


class Claims:
    """This sweep's claims; they end with the context, or with the process.

    Args:
        root: The store.
        states: What it held when this sweep was planned.
        on_done: Called with each trial that another sweep has run since.
    """

    def __init__(
        self, root: Path, states: Mapping[str, str], on_done: Callable[[Trial], None]
    ) -> None:
        self._root, self._states, self._on_done = root, states, on_done
        folder = root / files.SCRATCH
        self._locks: _Locks = _FileLocks(folder) if fcntl is None else _ByteLocks(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._locks.close()

    def take(self, trial: Trial) -> Claim:
        """Claims the trial, unless another sweep runs it now, or has run it since the plan."""
        if not self._locks.acquire(trial.trial_id):
            return Claim.BUSY
        if writer.state(self._root, trial.trial_id) in (None, self._states.get(trial.trial_id)):
            return Claim.MINE
        self.release(trial)
        self._on_done(trial)
        return Claim.DONE

    def release(self, trial: Trial) -> None:
        """Lets other sweeps have the trial."""
        self._locks.release(trial.trial_id)
