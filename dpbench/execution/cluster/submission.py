"""Calls that are submitted to dask, and what becomes of them."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpbench import strings
from dpbench.execution.cluster import remote_calls
from dpbench.execution.schedule import Row
from dpbench.execution.stacks import Stack

if TYPE_CHECKING:
    from distributed import Client, Future

_number = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Submission:
    """Trials that are submitted.

    Attributes:
        future: Of their rows.
        trials: Which.
        alone: Whether no other trial of this sweep is submitted.
        concurrent: How many may run on their worker at the same time.
        allowed: The workers that they may go to; None for all.
        failures: How often no worker took them.
    """

    future: "Future"
    trials: Stack
    alone: bool
    concurrent: int
    allowed: list[str] | None
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """Trials whose workers died as often as the scheduler allows."""

    workers: int

    def __str__(self) -> str:
        count = strings.counted(self.workers, "worker")
        return f"took down {count} of the cluster, twice, the second time with nothing else sent"


def submit(
    client: "Client",
    call: Callable[..., Any],
    *given: Any,
    allowed: list[str] | None,
    resources: Mapping[str, float],
) -> "Future":
    """Submits the call under a key of its own."""
    import cloudpickle  # type: ignore[import-untyped]

    return client.submit(
        _remote_call(),
        cloudpickle.dumps((call, *given)),
        key=f"dpbench-{time.time_ns():x}-{next(_number)}",
        workers=allowed,
        resources=resources,
        pure=False,
    )


def _remote_call() -> Callable[[bytes], Any]:
    """What is submitted: a function that unpickles the call and runs it.

    A nested function is pickled by its code and not by its name. So it also runs where dpbench is
    not installed, and returns what is wrong: an exception would not name the worker.
    """

    def remote_call(pickled: bytes) -> Any:
        import pickle

        from distributed import get_worker

        try:
            call, *given = pickle.loads(pickled)  # noqa: S301  # ours
            return call(*given)
        except Exception as error:  # of any kind: it is this worker's
            return {"worker": get_worker().address, "lack": f"{type(error).__name__}: {error}"}

    return remote_call


def killed(error: BaseException | None) -> Killed | None:
    """How the trials' workers died, if that is what the error says."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return Killed(workers=error.allowed_failures + 1)
    return None


def result(future: "Future") -> list[Row] | remote_calls.Unfit | None:
    """What the call has returned; None if that is lost."""
    try:
        return returned(future.result())
    except Exception:  # of any kind: the call is submitted again
        return None


def returned(value: Any) -> list[Row] | remote_calls.Unfit | None:
    """The value of `remote_call`; None for no rows."""
    return remote_calls.Unfit(**value) if isinstance(value, Mapping) else value or None
