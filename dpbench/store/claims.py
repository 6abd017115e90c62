"""Claims: several sweeps into one store share out its trials.

A claim is a lock on one byte of the file `claims`, at an offset that the trial's id gives. The
system drops it when its process ends, however it ends, so no claim is ever stale. POSIX byte locks
also work over NFS. On a file system without locks, two sweeps at once may run the same trials; a
warning says so once.

filelock, which guards writing, would need a file for each trial, and leave it behind.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from dpbench.store import files, locks, writer
from dpbench.trial import Trial


class Claim(Enum):
    """What became of a request to run a trial."""

    MINE = "this sweep is to run it"
    BUSY = "another sweep runs it"
    DONE = "another sweep has run it"


class Claims:
    """This sweep's claims; they end with the context, or with the process.

    A process must open the file only once: closing it anywhere drops all of its locks.

    Args:
        root: The store.
        states: What it held when this sweep was planned.
        on_done: Called with each trial that another sweep has run since.
    """

    def __init__(
        self, root: Path, states: Mapping[str, str], on_done: Callable[[Trial], None]
    ) -> None:
        self._root, self._states, self._on_done = root, states, on_done
        self._path = root / files.SCRATCH / "claims"
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def take(self, trial: Trial) -> Claim:
        """Claims the trial, unless another sweep runs it now, or has run it since the plan."""
        if not self._lock(trial, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return Claim.BUSY
        if writer.state(self._root, trial.trial_id) in (None, self._states.get(trial.trial_id)):
            return Claim.MINE
        self.release(trial)
        self._on_done(trial)
        return Claim.DONE

    def release(self, trial: Trial) -> None:
        """Lets other sweeps have the trial."""
        self._lock(trial, fcntl.LOCK_UN)

    def _lock(self, trial: Trial, operation: int) -> bool:
        """False if another process holds the trial's lock."""
        offset = int(trial.trial_id[:15], 16)  # 60 bits: offsets end at 63
        try:
            fcntl.lockf(self._descriptor, operation, 1, offset)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            locks.warn_without_locks(error, self._path.parent)
        return True
