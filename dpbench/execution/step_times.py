"""Exclusive, interleaved timings of engines against the non-private step."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dpbench import console, datasets, models, store
from dpbench.analysis import step_overhead
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import grid, timing_sweep, timing_task
from dpbench.execution.backend import Workers, usual_physical_batch_size
from dpbench.execution.progress import Progress
from dpbench.execution.timing_task import TIMED_PAIRS, TIMED_PROCESSES
from dpbench.measurement import devices
from dpbench.store import history
from dpbench.trial import (
    DEFAULT_MODEL,
    NON_PRIVATE,
    PRIVATE_ENGINES,
    TUTORIAL_ARMS,
    TimedName,
    Workload,
)

if TYPE_CHECKING:
    import pandas as pd

NAMES: tuple[TimedName, ...] = get_args(TimedName)
# non-private against itself is the noise floor; the tutorial's loops run on a CPU alone
DEFAULT: tuple[TimedName, ...] = (NON_PRIVATE, *PRIVATE_ENGINES, *TUTORIAL_ARMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingPlan:
    """What is to be timed, and how.

    Attributes:
        engines: Each once, in the order of NAMES.
        dataset: Its name, not `auto`.
        model: What is trained.
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

    engines: Sequence[TimedName]
    dataset: str
    model: str
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
        models.refuse(self.model, self.dataset)
        for batch_size in self.batch_sizes:
            if batch_size < 1:
                raise BadInput(f"Expected batch_size={batch_size} >= 1.")
            datasets.steps_per_epoch(self.dataset, batch_size)  # refuses a batch that is too large

    def rounds(self) -> list[tuple[Sequence[TimedName], Workload, str]]:
        """Engines that are timed together, with their workload and device.

        Raises:
            BadInput: A device is missing, or no engine runs on it.
        """
        resolved = devices.resolve(self.devices)
        names = [name for name in NAMES if name in self.engines]
        found: list[tuple[Sequence[TimedName], Workload, str]] = [
            (engines, self._workload(batch_size), device)
            for device in resolved
            for batch_size in dict.fromkeys(self.batch_sizes)
            # the tutorial's loader feeds no GPU
            if (engines := [name for name in names if device == "cpu" or name not in TUTORIAL_ARMS])
        ]
        if not found:
            raise BadInput(f"Expected an engine that runs on {', '.join(resolved)}, not {names}.")
        return found

    def _workload(self, batch_size: int) -> Workload:
        return Workload(dataset=self.dataset, model=self.model, batch_size=batch_size)


def plan_timings(
    engines: Sequence[str] | None = None,
    *,
    dataset: str = datasets.AUTO,
    model: str | None = None,
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
    name = resolution.dataset(dataset, root)
    model = model or datasets.spec(name).model
    usual = [each for each in DEFAULT if model == DEFAULT_MODEL or each not in TUTORIAL_ARMS]
    return TimingPlan(
        engines=engines or usual,  # type: ignore[arg-type]  # checked there
        dataset=name,
        model=model,
        data_root=root,
        batch_sizes=batch_size or grid.defaults(name)["batch_size"],
        devices=device,
        threads=threads,
        processes=processes,
        pairs=pairs,
        physical_batch_size=physical_batch_size,
        out=out or Path("results") / f"{name}-timing",
    )


def time_steps(
    engines: str | Sequence[str] | None = None,
    *,
    dataset: str = datasets.AUTO,
    model: str | None = None,
    batch_size: int | Sequence[int] | None = None,
    device: str | Sequence[str] = "auto",
    threads: int = 1,
    processes: int = TIMED_PROCESSES,
    pairs: int = TIMED_PAIRS,
    physical_batch_size: int | None = None,
    data_root: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> "pd.DataFrame":
    """Times engines against the non-private step, and writes the raw times to a store.

    Each engine alternates with the non-private step, so that the machine's drift cancels in the
    ratio, in several fresh processes, whose medians give the interval. Defaults are those of
    `dpbench timing`.

        frame = dpbench.time_steps(["fused", "opacus-ew"], dataset="digits", batch_size=64)

    Args:
        engines: None for all but `fused-non-private`.
        dataset: A dataset, or `auto`.
        model: What is trained; None for the dataset's default model.
        batch_size: Expected sizes of Poisson batches; None for those of the default sweep.
        device: `auto`, `cpu`, `cuda`, or several; each is measured in its turn.
        threads: Of each process.
        processes: Fresh processes that each timing is measured in.
        pairs: Of an engine's steps and non-private steps, in each process.
        physical_batch_size: Most examples in one forward pass.
        data_root: Where the dataset's files are.
        out: The store; None for results/DATASET-timing.
        progress: Whether to show progress.

    Returns:
        A row per engine, batch size and device, with the columns of
        `analysis.step_overhead.overhead`. A timing that failed has no row; stderr says why.

    Raises:
        BadInput: An argument is not valid, or the store cannot be written to.
    """
    plan = plan_timings(
        [engines] if isinstance(engines, str) else engines,
        dataset=dataset,
        model=model,
        batch_size=[batch_size] if isinstance(batch_size, int) else batch_size,
        device=[device] if isinstance(device, str) else device,
        threads=threads,
        processes=processes,
        pairs=pairs,
        physical_batch_size=physical_batch_size,
        data_root=None if data_root is None else Path(data_root),
        out=None if out is None else Path(out),
    )
    call = f"dpbench.time_steps({list(plan.engines)!r}, dataset={plan.dataset!r})"
    times = measure(plan, replace(history.asked("", []), command=call), quiet=not progress)
    for line in times.failed:
        console.say(line)
    return times.overhead


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepTimes:
    """What was measured.

    Attributes:
        rows: Of the timings that succeeded, as `store.read_timings` has them.
        failed: A line for each timing that failed.
    """

    rows: "pd.DataFrame"
    failed: tuple[str, ...]

    @property
    def overhead(self) -> "pd.DataFrame":
        """A row per engine, batch size and device."""
        return step_overhead.overhead(self.rows) if len(self.rows) else self.rows.assign(alone=[])


def measure(plan: TimingPlan, record: history.Sweep, *, quiet: bool = False) -> StepTimes:
    """Times what is planned and writes it, in place of older timings under the same conditions.

    Args:
        plan: What to time.
        record: Who asked for it.
        quiet: Whether to show no progress.

    Raises:
        BadInput: A device is missing, the dataset cannot be read, or the store not be written to.
    """
    import pandas as pd

    rounds = plan.rounds()
    store.create(plan.out)
    history.write(plan.out, record)
    rows, failed = [], []
    count = sum(len(engines) for engines, _, _ in rounds)
    with Progress(count, count * plan.processes, what="timings", quiet=quiet) as progress:
        for engines, workload, device in rounds:
            measured = timing_task.time_engines(
                engines,
                workload,
                _workers(plan, device),
                processes=plan.processes,
                pairs=plan.pairs,
            )
            with closing(measured) as parts:
                for timed in timing_sweep.whole_timings(parts, plan.processes, progress):
                    timing_sweep.write_timing(plan.out, timed)
                    if timed[0]["status"] != "ok":
                        failed.append(timing_sweep.failed_timing(timed))
                    else:
                        rows += timed
    return StepTimes(rows=pd.DataFrame(rows), failed=tuple(failed))


def _workers(plan: TimingPlan, device: str) -> Workers:
    usual = usual_physical_batch_size(device)
    return Workers(
        data_root=plan.data_root,
        devices=(device,),
        jobs=1,
        threads=plan.threads,
        physical_batch_size=plan.physical_batch_size or usual,
    )
