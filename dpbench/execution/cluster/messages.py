"""The messages of dask's errors, fit for a line."""

from dpbench import strings


def whole(error: object) -> str:
    """The message."""
    return strings.printable(str(error).strip() or type(error).__name__)


def first_line(error: object) -> str:
    """The first line of the message."""
    return strings.one_line(str(error).strip().split("\n")[0] or type(error).__name__)
