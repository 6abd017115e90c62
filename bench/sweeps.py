"""Short sweeps that gates look at."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import gates
from dpbench.execution import backend, local
from dpbench.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The rows of a sweep's trials, and the share of its workers' time that went into training."""

    rows: Sequence[list[dict[str, Any]]]
    efficiency: float


def trials(dataset: str) -> list[Trial]:
    """The trials of the dataset's accuracy gate, one a seed."""
    entry = gates.LIMITS["accuracy"][dataset]
    fields = {name: entry[name] for name in ("engine", "noise_multiplier", "max_grad_norm")}
    fields |= {name: entry[name] for name in ("batch_size", "learning_rate", "epochs")}
    return [Trial(dataset=dataset, seed=seed, delta=1e-5, **fields) for seed in entry["seeds"]]


def workers(data_root: Path, *, jobs: int) -> backend.Workers:
    return backend.Workers(
        data_root=data_root,
        devices=("cpu",),
        jobs=jobs,
        threads=1,
        physical_batch_size=gates.PHYSICAL_BATCH_SIZE,
    )


def sweep_mnist(data_root: Path) -> Swept:
    """Runs the trials of MNIST's accuracy gate by two workers that are at work already.

    Each has run a trial before, so that imports, compiling and reading the data are not in the
    figure: they are in every sweep once, and a sweep of the gate's few seconds is not about them.
    """
    two = workers(data_root, jobs=2)
    first = [replace(trial, epochs=1) for trial in trials("mnist")[: two.count]]
    with local.worker_pool(two) as pool:
        list(local.run_in_pool(pool, first, two))
        start = time.perf_counter()
        rows = list(local.run_in_pool(pool, trials("mnist"), two))
        wall = time.perf_counter() - start
    trained = sum(trial[-1]["train_seconds"] or 0.0 for trial in rows)
    return Swept(rows=rows, efficiency=trained / (two.count * wall))
