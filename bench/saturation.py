"""python bench/saturation.py: at what length of a trial the driver of a cluster is the limit.

Runs a grid of 100,000 simulated trials of a few milliseconds through a real scheduler and real
workers, each a process of its own, by the sweep's own code: claims, and parquet files
included. Prints what a trial costs the driver, how its memory grows, and the shortest trial that
keeps a cluster busy.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from dpbench import cli, store, strings
from dpbench.errors import BadInput
from dpbench.execution import backend, trial_sweep
from dpbench.execution.cluster import DaskBackend, remote_calls
from dpbench.execution.schedule import Claims, Row
from dpbench.measurement import environment
from dpbench.observations import Epoch
from dpbench.trial import Trial, Workload

PLACES = (16, 64, 256, 1024)  # trials at a time, of the table
REPORTS = 10  # readings of the memory
_where: list[Any] = []


def simulated(trials: Sequence[Trial], _workers: Any, _requirements: Any) -> list[dict[str, Any]]:
    """What a worker does: nothing, for the milliseconds that stand in the learning rate."""
    (trial,) = trials
    time.sleep(trial.learning_rate)
    if not _where:
        _where.append(
            environment.describe(
                implementation="simulated",
                device="cpu",
                threads=1,
                memory_format="contiguous",
                physical_batch_size=None,
                workers_beside=0,
            )
        )
    seen = Epoch(epoch=1, steps=22, test_accuracy=0.5, epsilon=1.0, accountant="prv")
    return [store.trial_row(trial, seen, _where[0])]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.Parser("python bench/saturation.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--trials", type=int, default=100_000, metavar="N")
    parser.add_argument("--milliseconds", type=float, default=3.0, metavar="X", help="of a trial")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes")
    parser.add_argument("--threads", type=int, default=8, metavar="N", help="of each worker")
    parser.add_argument("--short", action="store_true", help="100 trials: whether it runs")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return cli.run(parser, arguments, _run)


class Watched:
    """A `DaskBackend` that notes the driver's memory as rows come in."""

    def __init__(self, place: DaskBackend, every: int) -> None:
        self._place, self._every = place, every
        self.readings: list[tuple[int, float]] = []  # trials ended, MiB

    def __str__(self) -> str:
        return str(self._place)

    @property
    def device(self) -> str:
        return self._place.device

    @property
    def places(self) -> int:
        return self._place.places

    def conditions(self) -> Mapping[str, object]:
        return self._place.conditions()

    def time_engines(self, engines: Sequence[str], workload: Workload) -> Generator[list[Row]]:
        return self._place.time_engines(engines, workload)

    def run(
        self, trials: Sequence[Trial], claims: Claims, on_row: Callable[[Row], None]
    ) -> Generator[list[Row]]:
        process = psutil.Process()
        for count, rows in enumerate(self._place.run(trials, claims, on_row), start=1):
            yield rows
            if count % self._every == 0:
                self.readings.append((count, process.memory_info().rss / 2**20))


def _run(given: argparse.Namespace) -> int:
    try:
        import distributed
    except ImportError as error:
        raise BadInput(
            "Expected dask.distributed; pip install 'dpbench-sgd[dask]' brings it."
        ) from error
    if given.short:
        given.trials, given.workers, given.threads = 100, 1, 2
    trials = [
        Trial(
            dataset="digits",
            engine="fused",
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            delta=1e-5,
            batch_size=64,
            epochs=1,
            learning_rate=given.milliseconds / 1000,
            seed=seed,
        )
        for seed in range(given.trials)
    ]
    workers = backend.Workers(
        data_root=Path("unused"), devices=("cpu",), jobs=1, threads=1, physical_batch_size=None
    )
    requirements = remote_calls.Requirements(dataset="digits", versions=None)
    with (
        tempfile.TemporaryDirectory() as folder,
        _cluster(Path(folder), given.workers, given.threads) as address,
        distributed.Client(address) as client,
    ):
        client.wait_for_workers(given.workers)
        out = Path(folder) / "store"
        store.create(out)
        watched = Watched(
            DaskBackend(client, workers, requirements, work=simulated),
            max(1, given.trials // REPORTS),
        )
        place: backend.Backend = watched  # in all that a sweep asks of one
        start, used = time.perf_counter(), _cpu_seconds()
        trial_sweep.run_trials(trials, place, out, None, quiet=True)
        wall, cpu = time.perf_counter() - start, _cpu_seconds() - used
        held = len(store.states(out))
    assert held == given.trials, f"{held} of {given.trials} trials are in the store"
    each = 1000 * wall / given.trials
    places = given.workers * given.threads
    table = [{"places": count, "shortest_trial_milliseconds": count * each} for count in PLACES]
    if given.json:
        print(
            strings.json_text(
                trials=given.trials,
                trial_milliseconds=given.milliseconds,
                places=places,
                wall_seconds=wall,
                driver_cpu_milliseconds_per_trial=1000 * cpu / given.trials,
                wall_milliseconds_per_trial=each,
                memory_mebibytes=[{"trials": n, "rss": rss} for n, rss in watched.readings],
                saturation=table,
                machine=environment.machine(),
            )
        )
        return 0
    print(
        f"{given.trials:,} trials of {given.milliseconds:g} ms on {places} places: {wall:.0f} s, "
        f"{each:.2f} ms a trial, of which the driver computes {1000 * cpu / given.trials:.2f} ms"
    )
    print(
        "driver's memory, MiB: "
        + ", ".join(f"{rss:.0f} after {count:,}" for count, rss in watched.readings)
    )
    rows = [
        (f"{row['places']:,}", f"{row['shortest_trial_milliseconds'] / 1000:.2f} s")
        for row in table
    ]
    print(strings.table(("trials at a time", "busy while a trial takes at least"), rows))
    return 0


@contextmanager
def _cluster(folder: Path, workers: int, threads: int) -> Iterator[str]:
    """The address of a scheduler with so many workers; all are gone when the context ends."""
    file = folder / "scheduler.json"
    scheduler = ["distributed.cli.dask_scheduler", "--host", "tcp://127.0.0.1", "--port", "0"]
    worker = ["distributed.cli.dask_worker", "--no-nanny", "--nthreads", str(threads)]
    worker += ["--local-directory", str(folder)]
    shared = ["--scheduler-file", str(file), "--no-dashboard"]
    running = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", *module, *shared],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for module in (scheduler, *[worker] * workers)
    ]
    try:
        while not file.exists():
            time.sleep(0.1)
        yield str(json.loads(file.read_text(encoding="utf-8"))["address"])
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def _cpu_seconds() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
