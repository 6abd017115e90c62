"""The errors that dpbench raises on purpose.

    DpbenchError
    ├── BadInput (a ValueError)   what the user asked cannot be done; a command exits with 2
    │   ├── DatasetError          a dataset cannot be read
    │   ├── UserCodeError         a function of the user's has raised an error
    │   ├── StoreError            a store cannot be read or written, or is of a newer schema
    │   ├── PoolError             worker processes cannot be started
    │   └── ClusterError          no scheduler, or no worker that can run the trials
    ├── TrainingError             a trial cannot go on; its row records why
    └── DamagedFile               a file of a store is not whole, or is none; it is set aside

Whatever else a trial raises is recorded in the trial's row, with its traceback. How a worker
process died is no error but a value: `processes.worker_pool.Death`.
"""

from pathlib import Path


class DpbenchError(Exception):
    """Any error that dpbench raises on purpose. Its message is one line."""


class BadInput(DpbenchError, ValueError):
    """What the user asked cannot be done; the message names the value and the remedy."""


class DatasetError(BadInput):
    """A dataset cannot be read."""


class UserCodeError(BadInput):
    """A function of the user's has raised an error; the message shows the user's own lines."""


class StoreError(BadInput):
    """A store cannot be read or written, or it holds rows of a newer schema."""


class PoolError(BadInput):
    """Worker processes cannot be started."""


class ClusterError(BadInput):
    """There is no scheduler, or no worker that can run the trials."""


class TrainingError(DpbenchError):
    """The trial cannot go on; the message is the reason that its row records."""


class DamagedFile(DpbenchError):
    """The file holds no table of the store.

    Attributes:
        path: The file.
        whole: Whether it can be read: then it is a table, though not one of dpbench's, and is left
            where it is.
    """

    def __init__(self, path: Path, why: str, *, whole: bool = False) -> None:
        super().__init__(f"{path} is {'no file of this store' if whole else 'damaged'} ({why})")
        self.path = path
        self.whole = whole
