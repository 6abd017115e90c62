"""The errors that dpbench raises on purpose.

    DpbenchError
    ├── BadInput (a ValueError)   what the user asked cannot be done; a command exits with 2
    ├── TrainingError             a trial cannot go on; its row records why
    └── store.files.Damaged       a file of a store is not whole, or is none; it is set aside

Whatever else comes out of a trial is recorded in the trial's row, with its traceback.
"""


class DpbenchError(Exception):
    """Any error that dpbench raises on purpose. Its message is one line."""


class BadInput(DpbenchError, ValueError):
    """What the user asked cannot be done; the message names the value and the remedy."""


class TrainingError(DpbenchError):
    """The trial cannot go on; the message is the reason that its row records."""
