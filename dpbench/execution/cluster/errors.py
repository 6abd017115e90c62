"""What dask and its workers say when something fails, in words for a line."""

from typing import Any

from dpbench import strings


def is_killed(error: BaseException | None) -> bool:
    """Whether dask has given a task up, whose workers died of it as often as it allows."""
    from distributed import KilledWorker

    return isinstance(error, KilledWorker)


def why_lost(error: Any) -> str:
    """How a trial has ended that did not say so itself; without the worker's address."""
    count = strings.counted(error.allowed_failures + 1, "worker")
    return f"took down {count} of the cluster, twice, the second time with nothing else sent"


def whole(error: object) -> str:
    """All that it says."""
    return strings.printable(str(error).strip() or type(error).__name__)


def first_line(error: object) -> str:
    """The first line of what it says."""
    return strings.one_line(str(error).strip().split("\n")[0] or type(error).__name__)
