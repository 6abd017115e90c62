"""Exclusive, interleaved timings of engines against the non-private step."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import console, datasets, store
from dpbench.analysis import step_overhead
from dpbench.execution import engine_checks, timing_sweep, timing_task
from dpbench.execution.backend import Workers, usual_physical_batch_size
from dpbench.execution.timing_plan import TimingPlan, plan_timings
from dpbench.execution.timing_task import TIMED_PAIRS, TIMED_PROCESSES
from dpbench.execution.user_work import UserWork
from dpbench.store import history

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from dpbench.datasets import Data


def time_steps(
    engines: str | Sequence[str] | None = None,
    *,
    dataset: "str | Callable[[Path], Data] | Data" = datasets.AUTO,
    model: "str | Callable[..., nn.Module] | None" = None,
    model_args: Mapping[str, Any] | None = None,
    loss: "str | Callable[..., Tensor] | None" = None,
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
        model: What is trained, a name or a function that returns an `nn.Module`; None for the
            dataset's default model.
        model_args: Of that function, one value each.
        loss: A function (outputs, targets) -> losses [B], or its name; None for cross entropy.
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
        model_args=model_args,
        loss=loss,
        batch_size=[batch_size] if isinstance(batch_size, int) else batch_size,
        device=[device] if isinstance(device, str) else device,
        threads=threads,
        processes=processes,
        pairs=pairs,
        physical_batch_size=physical_batch_size,
        data_root=None if data_root is None else Path(data_root),
        out=None if out is None else Path(out),
    )
    call = f"dpbench.time_steps({list(plan.engines)!r}, dataset={plan.task.dataset!r})"
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
    for engines, workload, _ in rounds:
        engine_checks.refuse_timed(engines, workload, plan.data_root)
    store.create(plan.out)
    history.write(plan.out, record)
    rows, failed = [], []
    count = sum(len(engines) for engines, _, _ in rounds)
    with timing_sweep.timing_progress(count, count * plan.processes, quiet=quiet) as progress:
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
        user=UserWork.of([plan.workload(1)]).without_sources(),
    )
