"""Where trials run: `LocalBackend` on this machine, `DaskBackend` on a cluster."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dpbench.execution.schedule import Claims, Row
from dpbench.execution.user_work import NONE, UserWork
from dpbench.trial import Trial, Workload


def usual_physical_batch_size(device: str) -> int:
    """Bounds the memory of per-example gradients: 27 MB on a CPU, 213 MB on a GPU.

    On a CPU, larger parts are no faster; a GPU is kept busier by them.
    """
    return 256 if device == "cpu" else 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How trials are run: what cannot change their results but by rounding.

    Attributes:
        data_root: Where the dataset's files are.
        devices: `cpu`, or CUDA devices over which trials are spread.
        jobs: Trials at a time on each device.
        threads: PyTorch's intra-operator threads of each.
        physical_batch_size: Most examples in one forward pass; None for whole batches.
        trial_timeout_seconds: For each trial; None for no limit.
        others: Trials that other processes run on this machine at the same time.
        stack: Most trials that are trained at once as one model.
        user: The user's data and models that trials name.
    """

    data_root: Path
    devices: tuple[str, ...]
    jobs: int
    threads: int
    physical_batch_size: int | None
    trial_timeout_seconds: float | None = None
    others: int = 0
    stack: int = 1
    user: UserWork = NONE

    @property
    def count(self) -> int:
        """Trials at a time, on all devices together."""
        return self.jobs * len(self.devices)


class Backend(Protocol):
    """Where a sweep runs."""

    @property
    def device(self) -> str:
        """What timings are measured on."""

    @property
    def places(self) -> int:
        """Trials, or stacks of them, at a time."""

    def __str__(self) -> str:
        """How many trials at a time, and where; for a reader."""

    def run(
        self, trials: Sequence[Trial], claims: Claims, on_row: Callable[[Row], None]
    ) -> Generator[list[Row]]:
        """Runs the trials; yields the rows of each as it ends, in no fixed order.

        A trial that fails yields the rows of its whole epochs and one that says why. A trial whose
        process dies is tried once more, alone, after the others. No process is left when the
        iterator is closed.

        Args:
            trials: What to run.
            claims: Says which of them other sweeps run. A trial is released when the next rows are
                requested: by then the caller has written its rows.
            on_row: Called with a row as its epoch ends. A cluster sends the rows of a trial when it
                has ended, and calls nothing.
        """

    def conditions(self) -> Mapping[str, object]:
        """What a timing is recorded with, of each of TIMED_UNDER."""

    def time_engines(self, engines: Sequence[str], workload: Workload) -> Generator[list[Row]]:
        """Times each engine in several fresh processes, while no trial of this sweep runs.

        Yields the rows of one engine in one process at a time. A failure is one row that says why,
        and the engine's last.
        """
