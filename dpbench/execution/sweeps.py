"""A whole sweep: trials, confirmations, timings and report, of which only what is missing runs."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpbench import console, datasets, store, strings
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import timing_sweep, trial_sweep
from dpbench.execution.grid import Grid
from dpbench.execution.resources import Resources, open_backend
from dpbench.execution.sweep_plan import SweepPlan, plan_sweep
from dpbench.store import history

if TYPE_CHECKING:
    import pandas as pd

    from dpbench.execution.backend import Backend
    from dpbench.reporting.store_report import Written
    from dpbench.store.history import Sweep


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepResult:
    """What a sweep came to.

    Attributes:
        trials: A row per trial and epoch of the sweep's trials, confirmations included.
        report: Of the store, with the answer of this sweep's trials.
        unfinished: A line for each trial or timing that has failed; empty where all is well.
    """

    trials: "pd.DataFrame"
    report: "Written | None"
    unfinished: tuple[str, ...]


def run_sweep(
    grids: Grid | Sequence[Grid] | None = None,
    *,
    dataset: str = datasets.AUTO,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    answer_at: float | Sequence[float] | None = None,
    confirm: int = 0,
    tuned_in: str | Path | Sequence[str | Path] = (),
    device: str | Sequence[str] = "auto",
    jobs: int | None = None,
    threads: int = 1,
    stack: int | Literal["auto"] = "auto",
    physical_batch_size: int | None = None,
    trial_timeout: float | None = None,
    scheduler: str | None = None,
    retry_failed: bool | None = None,
    timings: bool = True,
    progress: bool = True,
) -> "pd.DataFrame":
    """Trains over grids of privacy settings, and writes the rows and the report to a store.

    Called again, it runs only what is missing. Defaults are those of `dpbench sweep`. Workers are
    processes of their own that do not import the caller's module, so a script needs no
    `if __name__ == "__main__":`.

        frame = dpbench.run_sweep(dpbench.Grid(noise_multiplier=[1, 2], epochs=5), dataset="digits")

    Args:
        grids: Whose trials are run, each once; None for the dataset's default grid.
        dataset: A dataset, or `auto`: MNIST, or the embedded digits where MNIST cannot be had.
        out: The store; None for results/DATASET-sweep.
        data_root: Where the dataset's files are; None for DPBENCH_DATA, or the user's cache.
        answer_at: The report names the best setting within each of these epsilons; None for the
            target epsilons of the grids, else 1, 3 and 8.
        confirm: Run the best settings again on so many seeds that no other trial has.
        tuned_in: Stores in which settings were tried on the same data before. They count in the
            price of choosing.
        device: `auto`, `cpu`, `cuda`, or several of `cuda:0`, `cuda:1`, ...
        jobs: Trials at a time on each device; None for a worker per core, or one per GPU.
        threads: Of each worker.
        stack: Most trials of one seed and batch size that are trained at once as one model.
        physical_batch_size: Most examples in one forward pass; it bounds memory, not results.
        trial_timeout: Seconds after which a trial is ended.
        scheduler: Address of a dask scheduler, whose workers run the trials.
        retry_failed: True tries all failed trials again, False none; None those that crashed or
            ran out of memory.
        timings: Whether to time the steps of the engines, too.
        progress: Whether to show progress: a bar in a terminal or notebook, lines elsewhere.

    Returns:
        A row per trial and epoch of these trials. A trial that failed has a row with its `status`
        and `reason`.

    Raises:
        BadInput: An argument is not valid, or the store cannot be written to.
    """
    arguments = {name: value for name, value in locals().items() if name != "grids"}
    every = [grids] if isinstance(grids, Grid) else list([Grid()] if grids is None else grids)
    command = _call(grids, arguments)
    root = resolution.data_root(None if data_root is None else Path(data_root))
    plan = plan_sweep(
        every,
        dataset=resolution.dataset(dataset, root),
        data_root=root,
        out=None if out is None else Path(out),
        answer_at=answer_at,
        confirm=confirm,
        tuned_in=tuned_in,
    )
    if not plan.trials:
        raise BadInput("Expected grids that hold at least one trial.")
    resources = Resources(
        device=(device,) if isinstance(device, str) else tuple(device),
        jobs=jobs,
        threads=threads,
        stack=stack,
        physical_batch_size=physical_batch_size,
        trial_timeout=trial_timeout,
        scheduler=scheduler,
    )
    record = replace(
        history.asked("", [], answer_at=plan.answer_at, tuned_in=plan.tuned_in), command=command
    )
    result = run(
        plan, resources, record, retry_failed=retry_failed, timings=timings, quiet=not progress
    )
    for line in result.unfinished:
        console.say(line)
    return result.trials


def _call(grids: Grid | Sequence[Grid] | None, arguments: dict[str, Any]) -> str:
    """The call as Python, without the arguments that have their default."""
    parameters = inspect.signature(run_sweep).parameters
    given = [] if grids is None else [repr(grids if isinstance(grids, Grid) else list(grids))]
    given += [
        f"{name}={str(value) if isinstance(value, Path) else value!r}"
        for name, value in arguments.items()
        if value != parameters[name].default
    ]
    return f"dpbench.run_sweep({', '.join(given)})"


def run(
    plan: SweepPlan,
    resources: Resources,
    record: "Sweep",
    *,
    retry_failed: bool | None,
    timings: bool,
    quiet: bool,
) -> SweepResult:
    """Runs what is missing of the plan, and writes the report.

    Args:
        plan: With at least one trial.
        resources: What it runs on.
        record: Who asked for it; its trials are filled in here.
        retry_failed: As of `run_sweep`.
        timings: As of `run_sweep`.
        quiet: Whether to print no progress and no warnings.

    Raises:
        BadInput: The store holds another dataset or cannot be written to, the dataset cannot be
            read, or a device is missing.
    """
    refuse_other_dataset(plan)
    if not quiet:
        for warning in plan.warnings:
            console.say(f"Warning: {warning}")
    record = replace(record, trial_ids=tuple(trial.trial_id for trial in plan.trials))
    with open_backend(resources, dataset=plan.dataset, data_root=plan.data_root) as backend:
        _check_dataset(plan, on_cluster=resources.on_cluster)
        store.create(plan.out)
        history.write(plan.out, record)
        record = _run_trials(plan, backend, record, retry_failed=retry_failed, quiet=quiet)
        failed = (
            timing_sweep.run_timings(plan.timed, backend, plan.out, quiet=quiet) if timings else []
        )
    return _result(plan.out, record, failed)


def _run_trials(
    plan: SweepPlan, backend: "Backend", record: "Sweep", *, retry_failed: bool | None, quiet: bool
) -> "Sweep":
    """Runs the trials and then the confirmations; returns the record with the latter's ids."""
    from dpbench.analysis import choice

    out = plan.out
    run_missing = partial(
        trial_sweep.run_trials, backend=backend, out=out, retry_failed=retry_failed, quiet=quiet
    )
    run_missing(plan.trials)
    if not plan.confirming_seeds:
        return record
    rows = store.read_trials(out, store.set_aside)
    again = choice.again(plan.trials, rows, plan.answer_at, plan.confirming_seeds)
    record = replace(record, confirming=tuple(trial.trial_id for trial in again))
    history.write(out, record)
    if again:
        if not quiet:
            console.say(f"The best again, on {strings.named('seed', plan.confirming_seeds)}:")
        run_missing(again)
    return record


def _result(out: Path, record: "Sweep", failed_timings: Sequence[str]) -> SweepResult:
    from dpbench.reporting import store_report, terminal

    rows = store.read_trials(out, store.set_aside)
    ids = [*record.trial_ids, *record.confirming]
    return SweepResult(
        trials=rows[rows["trial_id"].isin(ids)].reset_index(drop=True),
        report=store_report.write_report(out, own=record),
        unfinished=(*terminal.unfinished(rows, ids), *failed_timings),
    )


def refuse_other_dataset(plan: SweepPlan) -> None:
    """Raises BadInput where the store holds trials, and none of them on the plan's dataset."""
    out = plan.out
    if not (out / "trials").is_dir():  # a folder that cannot be written to is refused later
        return
    rows = store.load(out, "trials", ["dataset"], on_damage=lambda *_: None)
    there = rows["dataset"].unique().to_pylist()
    if len(there) and plan.dataset not in there:
        raise BadInput(
            f"Expected {out} to hold trials on {plan.dataset}, not on {', '.join(sorted(there))}: "
            "name another folder with --out."
        )


def _check_dataset(plan: SweepPlan, *, on_cluster: bool) -> None:
    """Loads a dataset that may be missing or damaged, so that it is refused once and early."""
    if on_cluster or datasets.unpacked(plan.dataset, plan.data_root):
        return
    from dpbench.datasets import loading

    loading.load(plan.dataset, plan.data_root, "cpu")
