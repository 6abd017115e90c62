"""`dpbench.run_sweep`."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpbench import console, datasets, store, user_code
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import private_run
from dpbench.execution.grid import Grid
from dpbench.execution.resources import Resources
from dpbench.execution.sweep_plan import SweepPlan, plan_sweep
from dpbench.execution.sweep_run import run_planned
from dpbench.privacy.run_count import Distribution
from dpbench.store import history

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from dpbench.datasets import Data

    Model = str | Callable[..., nn.Module]


def run_sweep(
    grids: Grid | Sequence[Grid] | None = None,
    *,
    dataset: "str | Callable[[Path], Data] | Data" = datasets.AUTO,
    model: "Model | Sequence[Model] | None" = None,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    answer_at: float | Sequence[float] | None = None,
    confirm: int = 0,
    tuned_in: str | Path | Sequence[str | Path] = (),
    search: int | None = None,
    private_selection: Distribution | bool = False,
    total_epsilon: float | None = None,
    private_scores: bool = False,
    early_stop: int | bool = False,
    choose_by: str | None = None,
    search_method: Literal["sobol", "optuna"] | None = None,
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
    `if __name__ == "__main__":`, unless it holds the model or the data itself: workers import the
    file of a function that they are given.

        frame = dpbench.run_sweep(dpbench.Grid(noise_multiplier=[1, 2], epochs=5), dataset="digits")
        frame = dpbench.run_sweep(model=mine.make, dataset=mine.load)

    Args:
        grids: Whose trials are run, each once; None for the dataset's default grid.
        dataset: A dataset, or `auto`: MNIST, or the embedded digits where MNIST cannot be had. Or
            your own: a function (folder of the data) -> `Data`, or its name `FILE.py:function`, or
            a `Data`, which is written below the data root for the workers of this machine.
        model: What is trained, of grids that do not say it: names, or functions that return an
            `nn.Module`.
        out: The store; None for results/DATASET-sweep.
        data_root: Where the dataset's files are; None for DPBENCH_DATA, or the user's cache.
        answer_at: The report names the best setting within each of these epsilons; None for the
            target epsilons of the grids, else 1, 3 and 8.
        confirm: Run the best settings again on so many seeds that no other trial has.
        tuned_in: Stores in which settings were tried on the same data before. They count in the
            price of choosing.
        search: Draw so many settings from the ranges and lists of each grid, and run each at every
            target epsilon and seed; None to run all of the grid. Of a private selection: their
            mean number.
        private_selection: Draw the number of settings, too, once: from the distribution, or from
            the default one where it is True. Publish the best run alone: `attrs` of what is
            returned hold it under `private_selection`, with the epsilon of the whole search.
        total_epsilon: Solve for the noise with which a private selection spends at most so much.
        private_scores: Let the guarantee cover the held-out examples, too, by noisy scores.
        early_stop: Train all settings of a search for a while, and the best for longer: one in so
            many goes on, one in four where it is True.
        choose_by: What settings are chosen by: `accuracy`, `balanced_accuracy`, `auroc`, `loss`, or
            a metric of your model's file, with `:lowest` where lower is better; None for accuracy
            or, where targets are no classes, the loss.
        search_method: `sobol` draws settings evenly; `optuna` asks Optuna (the extra `optuna`) for
            what to try next.
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
    user_code.refuse_nested("dpbench.run_sweep")
    every = [grids] if isinstance(grids, Grid) else list([Grid()] if grids is None else grids)
    if model is not None:
        given = Grid(model=model).model  # type: ignore[arg-type]  # a Grid takes functions
        every = [each if each.model else replace(each, model=given) for each in every]
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
        search=search,
        private_selection=private_selection,
        total_epsilon=total_epsilon,
        private_scores=private_scores,
        early_stop=early_stop,
        choose_by=choose_by,
        search_method=search_method,
    )
    if not plan.trials and plan.private is None:
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
        history.asked(
            "",
            [],
            answer_at=plan.answer_at,
            tuned_in=plan.tuned_in,
            choose_by=plan.choose_by,
        ),
        command=command,
    )
    if plan.private is not None:
        return _private(plan, resources, record, retry_failed=retry_failed, quiet=not progress)
    result = run_planned(
        plan, resources, record, retry_failed=retry_failed, timings=timings, quiet=not progress
    )
    for line in result.unfinished:
        console.say(line)
    return result.trials


def _private(
    plan: SweepPlan,
    resources: Resources,
    record: "history.Sweep",
    *,
    retry_failed: bool | None,
    quiet: bool,
) -> "pd.DataFrame":
    """The rows of a private search, with its best run beside them."""
    found = private_run.run(plan, resources, record, retry_failed=retry_failed, quiet=quiet)
    for line in found.unfinished:
        console.say(line)
    rows = store.read_trials(plan.out).iloc[:0] if found.trials is None else found.trials
    rows.attrs["private_selection"] = asdict(found.best)
    return rows


def _said(value: Any) -> str:
    """The value as Python, without folders of functions' files."""
    if isinstance(value, datasets.Data):
        return "data"
    if isinstance(value, list | tuple) and any(map(callable, value)):
        return f"[{', '.join(map(_said, value))}]"
    if callable(value):
        return repr(user_code.shown(user_code.named(value)))
    return str(value) if isinstance(value, Path) else repr(value)


def _call(grids: Grid | Sequence[Grid] | None, arguments: dict[str, Any]) -> str:
    """The call as Python, without the arguments that have their default."""
    parameters = inspect.signature(run_sweep).parameters
    given = [] if grids is None else [repr(grids if isinstance(grids, Grid) else list(grids))]
    given += [
        f"{name}={_said(value)}"
        for name, value in arguments.items()
        if value != parameters[name].default
    ]
    return f"dpbench.run_sweep({', '.join(given)})"
