"""Timings before they are measured: engines, workloads and devices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpbench import datasets, engines, models, strings
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import engine_checks, grid, workloads
from dpbench.execution.timing_task import TIMED_PAIRS, TIMED_PROCESSES
from dpbench.measurement import devices
from dpbench.trial import DEFAULT_MODEL, NON_PRIVATE, TUTORIAL_ARMS, Workload

NAMES = (*engines.names(), *TUTORIAL_ARMS)
# non-private against itself is the noise floor; the tutorial's loops run on a CPU alone
DEFAULT = (NON_PRIVATE, *engines.private_names(), *TUTORIAL_ARMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingPlan:
    """What is to be timed, and how.

    Attributes:
        engines: Each once, in the order of NAMES.
        task: The model and the dataset; its batch size is not looked at.
        data_root: Where the dataset's files are.
        batch_sizes: Expected sizes of Poisson batches.
        devices: As typed; each is measured in its turn.
        threads: Of the processes.
        processes: Fresh ones, in which each timing is measured.
        pairs: In each process.
        physical_batch_size: Most examples in one forward pass; None for the usual one.
        out: The store.

    Raises:
        BadInput: An engine is unknown, the model cannot take the dataset's inputs, or a number is
            out of range.
    """

    engines: Sequence[str]
    task: Workload
    data_root: Path
    batch_sizes: Sequence[int]
    devices: Sequence[str]
    threads: int
    processes: int
    pairs: int
    physical_batch_size: int | None
    out: Path

    def __post_init__(self) -> None:
        for name in ("threads", "processes", "pairs", "physical_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"Expected {name}={value} >= 1.")
        for name in self.engines:
            if name not in NAMES:
                raise BadInput(f"Expected engine={name!r} to be one of {', '.join(NAMES)}.")
        models.refuse(self.task.model, self.task.dataset)
        for batch_size in self.batch_sizes:
            if batch_size < 1:
                raise BadInput(f"Expected batch_size={batch_size} >= 1.")
            datasets.steps_per_epoch(
                self.task.dataset, batch_size
            )  # refuses a batch that is too large

    def rounds(self) -> list[tuple[Sequence[str], Workload, str]]:
        """Engines that are timed together, with their workload and device.

        Raises:
            BadInput: A device is missing, or no engine runs on it.
        """
        resolved = devices.resolve(self.devices)
        names = [name for name in NAMES if name in self.engines]
        found: list[tuple[Sequence[str], Workload, str]] = [
            (fit, self.workload(batch_size), device)
            for device in resolved
            for batch_size in dict.fromkeys(self.batch_sizes)
            # the tutorial's loader feeds no GPU
            if (fit := [name for name in names if device == "cpu" or name not in TUTORIAL_ARMS])
        ]
        if not found:
            raise BadInput(f"Expected an engine that runs on {', '.join(resolved)}, not {names}.")
        return found

    def workload(self, batch_size: int) -> Workload:
        """What steps are timed on, at that batch size."""
        return replace(self.task, batch_size=batch_size)


def plan_timings(
    names: Sequence[str] | None = None,
    *,
    dataset: str | Callable[[Path], datasets.Data] | datasets.Data = datasets.AUTO,
    model: str | Callable[..., Any] | None = None,
    model_args: Any = None,
    loss: str | Callable[..., Any] | None = None,
    batch_size: Sequence[int] | None = None,
    device: Sequence[str] = ("auto",),
    threads: int = 1,
    processes: int = TIMED_PROCESSES,
    pairs: int = TIMED_PAIRS,
    physical_batch_size: int | None = None,
    data_root: Path | None = None,
    out: Path | None = None,
) -> TimingPlan:
    """The plan of timings, with the defaults of `time_steps`.

    Raises:
        BadInput: As `TimingPlan`.
    """
    root = resolution.data_root(data_root)
    task = workloads.workload(
        dataset=dataset, model=model, model_args=model_args, loss=loss, data_root=root
    )
    return TimingPlan(
        engines=names or engine_checks.right(_usual(task), task, root),
        task=task,
        data_root=root,
        batch_sizes=batch_size or grid.defaults(task.dataset)["batch_size"],
        devices=device,
        threads=threads,
        processes=processes,
        pairs=pairs,
        physical_batch_size=physical_batch_size,
        out=out or Path("results") / f"{strings.file_name(task.dataset)}-timing",
    )


def _usual(task: Workload) -> list[str]:
    """The engines that have a step of their own for the task."""
    of_tutorial = task.model == DEFAULT_MODEL and task.loss is None
    return [
        name
        for name in DEFAULT
        if (of_tutorial if name in TUTORIAL_ARMS else engines.has_own_step(name, task))
    ]
