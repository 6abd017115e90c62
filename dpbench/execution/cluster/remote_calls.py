"""What a worker of a cluster does: runs trials in a process that it keeps, and times engines.

A trial that dies so takes no other with it, and can be ended when its time is up.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from dpbench import __version__, cli, datasets, store
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import runner
from dpbench.execution.runner import Workers
from dpbench.execution.schedule import Row
from dpbench.execution.stacks import Stack
from dpbench.measurement import environment
from dpbench.processes.worker_pool import Crew
from dpbench.trial import TimedName, Workload

PACKAGES = ("torch", "opacus")  # whose versions change results
_COMMIT = "dpbench of commit"
_NO_DATA = "BadInput: Cannot load dataset="  # as `loading.load` says it, and a failed trial's row
_POLL_SECONDS = 0.5
_TIMING = """
import os, sys
from dpbench.processes import worker
worker.end_with(int(sys.argv.pop(1)))
from dpbench import timing
sys.exit(timing.main())
"""

_kept = threading.local()  # a crew of one for each of a worker's threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a worker must have.

    Attributes:
        dataset: Which it must find under its own data root.
        versions: Of packages; None where any will do.
        device: What trials run on.
    """

    dataset: str
    versions: Mapping[str, str] | None
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """Said instead of rows: which worker lacks what."""

    worker: str
    lack: str


def versions() -> dict[str, str]:
    """Of dpbench and of what changes results, without build tags such as `+cu126`.

    With the commit of dpbench, where it is run from a checkout.
    """
    commit = environment.commit()
    own = {"dpbench": __version__} | ({} if commit is None else {_COMMIT: commit})
    return own | {name: version(name).split("+")[0] for name in PACKAGES}


def lacks(kit: Kit) -> str | None:
    """What this process' machine lacks of it, in words; None if nothing."""
    root = resolution.data_root(None)
    own = versions()
    for name, wanted in (kit.versions or {}).items():
        if own.get(name, wanted) != wanted:  # a commit is not known everywhere
            return f"it has {name} {own[name]}, not {wanted} (--other-versions allows it)"
    if kit.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            return "it has no CUDA device"
    try:
        if not datasets.present(kit.dataset, root):
            return f"{kit.dataset} is not under its data root {root} (DPBENCH_DATA names another)"
        if not datasets.unpacked(kit.dataset, root):
            from dpbench.datasets import loading

            loading.load(kit.dataset, root, "cpu")
    except (BadInput, OSError) as error:
        return str(error)
    return None


def run_trials(trials: Stack, workers: Workers, kit: Kit) -> list[Row] | Unfit:
    """The trials' rows, or what this machine lacks to run them.

    Args:
        trials: A stack, of one for most.
        workers: How; its data root is this machine's own.
        kit: What this machine must have.
    """
    problem = lacks(kit)
    if problem is not None:
        return Unfit(worker=_address(), lack=problem)
    own = replace(workers, data_root=resolution.data_root(None))
    try:
        found = runner.run_by(_crew(own), trials, own, given_up=_given_up())
        rows = [row for rows in found for row in rows]
    except BadInput as error:  # which no trial can be blamed for
        return Unfit(worker=_address(), lack=str(error))
    unread = (str(row["reason"]) for row in rows if str(row["reason"]).startswith(_NO_DATA))
    if (lack := next(unread, None)) is not None:
        return Unfit(worker=_address(), lack=lack)
    return rows


def _given_up() -> Callable[[], bool]:
    """Says whether the scheduler has called this thread's task off: its sweep has ended."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def given_up() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return given_up


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


def _crew(workers: Workers) -> Crew:
    """This thread's; a new one where it was made for another kind of trial."""
    kind = (workers.threads, workers.devices)
    if getattr(_kept, "kind", None) != kind:
        # A worker under a nanny is a daemon, and those may start no processes, lest they leave
        # them behind. Ours end with whoever started them.
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        _kept.crew, _kept.kind = runner.crew(workers), kind
    crew: Crew = _kept.crew
    return crew


def time_engines(
    engines: Sequence[TimedName],
    workload: Workload,
    workers: Workers,
    kit: Kit,
    times: tuple[int, int],
) -> list[Row] | Unfit:
    """The rows of timings, by `python -m dpbench.timing`, or what this machine lacks.

    Args:
        engines: Which.
        workload: On what.
        workers: How; its data root is this machine's own.
        kit: What this machine must have.
        times: How many processes each is timed in, and how many pairs each of them takes.
    """
    problem = lacks(kit)
    if problem is not None:
        return Unfit(worker=_address(), lack=problem)
    processes, pairs = times
    with tempfile.TemporaryDirectory() as folder:
        physical = workers.physical_batch_size
        asked = {
            "--batch-size": workload.batch_size,
            "--dataset": workload.dataset,
            "--model": workload.model,
            "--data-root": resolution.data_root(None),
            "--device": workers.devices[0],
            "--threads": workers.threads,
            "--processes": processes,
            "--pairs": pairs,
            "--out": folder,
        } | ({} if physical is None else {"--physical-batch-size": physical})
        lack = _timed(engines, asked, _given_up())
        if lack is not None:
            return Unfit(worker=_address(), lack=lack)
        rows: list[Row] = store.load(Path(folder), "timings").to_pylist()
    return rows or Unfit(worker=_address(), lack=f"timing {', '.join(engines)} wrote nothing")


def _timed(
    engines: Sequence[TimedName], asked: Mapping[str, object], given_up: Callable[[], bool]
) -> str | None:
    """Runs `python -m dpbench.timing`, which ends with this process; why it failed, or None."""
    flags = ["--engine", *engines, *(str(each) for item in asked.items() for each in item)]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(  # noqa: S603  # our own command
            [sys.executable, "-c", _TIMING, str(os.getpid()), *flags],
            stdout=subprocess.DEVNULL,
            stderr=errors,
        ) as process,
    ):
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            if given_up():
                process.kill()
        if process.returncode in (0, cli.EXIT_FAILED_TRIALS):  # rows say what has failed
            return None
        errors.seek(0)
        said = errors.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "it says nothing")
        return f"timing {', '.join(engines)} ends with code {process.returncode}: {last}"
