"""What a worker of a cluster does: runs trials in a process that it keeps, and times engines.

A trial that dies so takes no other with it, and can be ended when its time is up.
"""

import multiprocessing
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpbench import __version__, catalogue, command, runner, store
from dpbench.crew import Crew
from dpbench.runner import Workers
from dpbench.schedule import Row
from dpbench.stacks import Stack
from dpbench.trial import TimedName

PACKAGES = ("torch", "opacus")  # whose versions change results

_kept = threading.local()  # a crew of one for each of a worker's threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a worker must have.

    Attributes:
        dataset: Which it must find under its own data root.
        versions: Of packages; None where any will do.
    """

    dataset: str
    versions: Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """Said instead of rows: which worker lacks what."""

    worker: str
    lack: str


def versions() -> dict[str, str]:
    """Of dpbench and of what changes results, without build tags such as `+cu126`."""
    return {"dpbench": __version__} | {name: version(name).split("+")[0] for name in PACKAGES}


def lacks(kit: Kit) -> str | None:
    """What this process' machine lacks of it, in words; None if nothing."""
    root = command.data_root(None)
    own = versions()
    for name, wanted in (kit.versions or {}).items():
        if own[name] != wanted:
            return f"it has {name} {own[name]}, not {wanted} (--other-versions allows it)"
    if not catalogue.present(kit.dataset, root):
        return f"{kit.dataset} is not under its data root {root} (DPBENCH_DATA names another)"
    return None


def resources(dask_worker: Any) -> dict[str, float]:
    """What the worker has announced with --resources; dask passes itself by that name."""
    return dict(dask_worker.state.total_resources)


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
    own = replace(workers, data_root=command.data_root(None))
    return [row for rows in runner.run_by(_crew(own), trials, own) for row in rows]


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


def time_engine(
    engine: TimedName, batch_size: int, workers: Workers, kit: Kit, pairs: int
) -> list[Row] | Unfit:
    """The rows of one timing, by `python -m dpbench.timing`, or what this machine lacks."""
    problem = lacks(kit)
    if problem is not None:
        return Unfit(worker=_address(), lack=problem)
    with tempfile.TemporaryDirectory() as folder:
        physical = workers.physical_batch_size
        asked = {
            "--engine": engine,
            "--batch-size": batch_size,
            "--dataset": kit.dataset,
            "--data-root": command.data_root(None),
            "--device": workers.devices[0],
            "--threads": workers.threads,
            "--pairs": pairs,
            "--out": folder,
        } | ({} if physical is None else {"--physical-batch-size": physical})
        subprocess.run(  # noqa: S603  # our own command
            [
                sys.executable,
                "-m",
                "dpbench.timing",
                *(str(e) for item in asked.items() for e in item),
            ],
            check=True,
            capture_output=True,
        )
        rows: list[Row] = store.load(Path(folder), "timings").to_pylist()
    return rows
