"""What a worker of a cluster does: it runs trials in a process that it keeps, and times engines.

So a trial that dies takes no other with it, and can be ended when it takes too long.
"""

import multiprocessing
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version

from dpbench import __version__, datasets, user_code
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import local, timing_task
from dpbench.execution.backend import Workers
from dpbench.execution.schedule import Row
from dpbench.execution.stacks import Stack
from dpbench.measurement import environment
from dpbench.processes.worker_pool import WorkerPool
from dpbench.trial import Workload

PACKAGES = ("torch", "opacus")  # whose versions change results
_COMMIT = "dpbench of commit"

_kept = threading.local()  # a pool of one worker for each of the dask worker's threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a worker must have.

    Attributes:
        dataset: Which it must find under its own data root, unless it is a user's.
        versions: Of packages; None if any will do.
        device: What trials run on.
    """

    dataset: str
    versions: Mapping[str, str] | None
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """Returned instead of rows: which worker lacks what."""

    worker: str
    lack: str


def versions() -> dict[str, str]:
    """Of dpbench and of what changes results, without build tags such as `+cu126`.

    With the commit of dpbench, if it is run from a checkout.
    """
    commit = environment.commit()
    own = {"dpbench": __version__} | ({} if commit is None else {_COMMIT: commit})
    return own | {name: version(name).split("+")[0] for name in PACKAGES}


def lacks(requirements: Requirements) -> str | None:
    """What this process' machine lacks of them, for a reader; None if nothing."""
    root = resolution.data_root(None)
    own = versions()
    for name, wanted in (requirements.versions or {}).items():
        if own.get(name, wanted) != wanted:  # a commit is not known everywhere
            return f"it has {name} {own[name]}, not {wanted} (--other-versions allows it)"
    if requirements.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            return "it has no CUDA device"
    dataset = requirements.dataset
    if user_code.is_reference(dataset):  # its function travels with the trials, and says what lacks
        return None
    try:
        if not datasets.present(dataset, root):
            return f"{dataset} is not under its data root {root} (DPBENCH_DATA names another)"
        if not datasets.unpacked(dataset, root):
            from dpbench.datasets import loading

            loading.load(dataset, root, "cpu")
    except (BadInput, OSError) as error:
        return str(error)
    return None


def run_trials(trials: Stack, workers: Workers, requirements: Requirements) -> list[Row] | Unfit:
    """The trials' rows, or what this machine lacks to run them.

    Args:
        trials: A stack, most of them of one.
        workers: How; its data root is this machine's own.
        requirements: What this machine must have.
    """
    problem = lacks(requirements)
    if problem is not None:
        return Unfit(worker=_address(), lack=problem)
    own = replace(workers, data_root=resolution.data_root(None))
    try:
        found = local.run_in_pool(
            _pool(own), trials, own, cancelled=_cancelled(), on_refusal=_raise
        )
        return [row for rows in found for row in rows]
    except BadInput as error:  # no trial's fault
        return Unfit(worker=_address(), lack=str(error))


def _raise(error: BadInput) -> None:
    raise error


def _cancelled() -> Callable[[], bool]:
    """Returns whether the scheduler has cancelled this thread's task: its sweep has ended."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return cancelled


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


def _pool(workers: Workers) -> WorkerPool:
    """This thread's; a new one if it was made for another kind of trial."""
    kind = (workers.threads, workers.devices)
    if getattr(_kept, "kind", None) != kind:
        _allow_processes()
        _kept.pool, _kept.kind = local.worker_pool(workers), kind
    pool: WorkerPool = _kept.pool
    return pool


def _allow_processes() -> None:
    """Lets this process start others, even if it is a daemon, as a worker under a nanny is.

    Daemons may not, lest they leave processes behind; ours end with whoever started them.
    """
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]


def time_engines(
    engines: Sequence[str],
    workload: Workload,
    workers: Workers,
    requirements: Requirements,
    times: tuple[int, int],
) -> list[Row] | Unfit:
    """The rows of timings, or what this machine lacks.

    Args:
        engines: Which.
        workload: On what.
        workers: How; its data root is this machine's own.
        requirements: What this machine must have.
        times: How many processes each is timed in, and how many pairs each of them takes.
    """
    problem = lacks(requirements)
    if problem is not None:
        return Unfit(worker=_address(), lack=problem)
    own = replace(workers, data_root=resolution.data_root(None))
    processes, pairs = times
    _allow_processes()
    cancelled = _cancelled()
    rows: list[Row] = []
    timings = timing_task.time_engines(engines, workload, own, processes=processes, pairs=pairs)
    try:
        with closing(timings):
            for part in timings:
                rows += part
                if cancelled():
                    break
    except BadInput as error:
        return Unfit(worker=_address(), lack=str(error))
    return rows
