"""python bench/launches.py: whether a GPU's steps wait for their launches, or the launches for it.

By engine and batch size, and for a stack of trials: a step's launches, its time where they are made
one by one and where they are a CUDA graph, and what its kernels take of either: above 100 % where
some of them run side by side. Needs a CUDA device.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from dpbench import cli, engines, models, strings
from dpbench.datasets import Data, loading, resolution
from dpbench.engines.protocol import Engine
from dpbench.errors import BadInput
from dpbench.execution import backend
from dpbench.measurement import devices, environment, step_timing
from dpbench.training.loop import synchronise
from dpbench.trial import Workload

ENGINES: tuple[str, ...] = ("non-private", "bookkeeping", "opacus-hooks")
STACK = 10  # trials: as those of a batch size in the default grid, one baseline among them
STEPS = 50  # of a block
PROFILED_STEPS = 10
HEADER = ("step", "batch", "launches", "ms", "kernels", "as a graph", "ms", "kernels")
BLOCKS = 5
_LAUNCHES = ("Launch", "Memcpy", "Memset")  # in the names of the driver's and the runtime's calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Steps in one of the two ways; the times are a step's.

    Attributes:
        milliseconds: From an idle device to an idle device, over the block's steps; the median.
        launches: Kernels, graphs, copies and fills that the processor asks for.
        busy_milliseconds: Of its kernels, copies and fills, added up: more than the step takes
            where they overlap. Of the first steps of a block, for a profile takes long to read.
        kernels: The names of what takes it longest, with their share of that.
    """

    milliseconds: float
    launches: float
    busy_milliseconds: float
    kernels: dict[str, float]

    @property
    def busy(self) -> float:
        return self.busy_milliseconds / self.milliseconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.Parser("python bench/launches.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 256, 1024], metavar="N")
    parser.add_argument("--device", default="cuda", metavar="NAME", help="cuda or cuda:N")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="as the sweep's")
    parser.add_argument("--short", action="store_true", help="one batch size: whether it runs")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    (device,) = devices.resolve([given.device])
    if device == "cpu":
        raise BadInput(f"Expected device={given.device} to be a CUDA device: a CPU launches none.")
    dataset = loading.load("mnist", resolution.data_root(given.data_root), device)
    rows = []
    for batch_size in given.batch_size[:1] if given.short else given.batch_size:
        for name, plain, captured in _arms(batch_size, dataset):
            ways = _both(plain, captured, device)
            rows.append({"step": name, "batch_size": batch_size} | ways)
            print(f"{name} batch {batch_size}", file=sys.stderr)
    found = [
        {k: asdict(v) | {"busy": v.busy} if isinstance(v, Way) else v for k, v in row.items()}
        for row in rows
    ]
    if given.json:
        machine = environment.machine(device)
        print(strings.json_text(dataset="mnist", machine=machine, rows=found))
    else:
        print(text(found))
    return 0


def _arms(
    batch_size: int, dataset: Data
) -> Iterator[tuple[str, step_timing.Arm, step_timing.Arm | None]]:
    """Names, with steps launched one by one, and captured where they can be."""
    device = str(dataset.train[1].device)
    batches = step_timing.batches(batch_size, STEPS, dataset)
    most = backend.usual_physical_batch_size(device)
    workload = Workload(dataset="mnist", model="tutorial-cnn", batch_size=batch_size)

    def stacked(noise: torch.Generator) -> Engine:
        return engines.build_stack(
            [engines.timing_trial("bookkeeping", workload)] * STACK,
            [_model(device) for _ in range(STACK)],
            noise=[noise] * STACK,  # one costs as much as another
            physical_batch_size=most,
        )

    builds: dict[str, Callable[[torch.Generator], Engine]] = {
        name: partial(_built, name, workload, most) for name in ENGINES
    }
    for name, build in (builds | {f"stack of {STACK}": stacked}).items():
        plain = build(torch.Generator(device).manual_seed(0))
        noise = torch.Generator(device).manual_seed(0)
        other = build(noise)
        at_once = engines.graphed(other, noise=[noise])
        captured = None if at_once is other else step_timing.EngineArm(at_once, batches)
        yield name, step_timing.EngineArm(plain, batches), captured


def _model(device: str) -> nn.Sequential:
    model = models.build("tutorial-cnn", "mnist", seed=0, device=device)
    assert isinstance(model, nn.Sequential)
    return model


def _built(name: str, workload: Workload, most: int, noise: torch.Generator) -> Engine:
    return step_timing.build(engines.timing_trial(name, workload), noise, most)


def _both(
    plain: step_timing.Arm, captured: step_timing.Arm | None, device: str
) -> dict[str, Way | None]:
    """The two ways, their blocks alternated."""
    arms = {"one_by_one": plain} | ({} if captured is None else {"graph": captured})
    for arm in arms.values():
        arm.run(STEPS)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(BLOCKS):
        for name, arm in arms.items():
            synchronise(device)
            start = time.perf_counter()
            arm.run(STEPS)
            synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    found: dict[str, Way | None] = dict.fromkeys(("one_by_one", "graph"))
    for name, arm in arms.items():
        found[name] = _way(arm, 1e3 * statistics.median(seconds[name]) / STEPS, device)
    return found


def _way(arm: step_timing.Arm, milliseconds: float, device: str) -> Way:
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        arm.run(PROFILED_STEPS)
        synchronise(device)
    events = seen.key_averages()
    work = [each for each in events if each.device_type.name == "CUDA"]
    calls = [each for each in events if each.device_type.name != "CUDA"]
    busy = sum(each.self_device_time_total for each in work)  # microseconds
    work.sort(key=lambda each: -each.self_device_time_total)
    return Way(
        milliseconds=milliseconds,
        launches=sum(each.count for each in calls if any(n in each.key for n in _LAUNCHES))
        / PROFILED_STEPS,
        busy_milliseconds=busy / 1e3 / PROFILED_STEPS,
        kernels={each.key: each.self_device_time_total / busy for each in work[:5]},
    )


def text(rows: Sequence[dict[str, Any]]) -> str:
    """What is printed of the object's rows."""
    return strings.table(HEADER, map(_cells, rows))


def _cells(row: dict[str, Any]) -> list[str]:
    cells = [row["step"], str(row["batch_size"])]
    for way in (row["one_by_one"], row["graph"]):
        cells += (
            [f"{way['launches']:.0f}", f"{way['milliseconds']:.2f}", f"{100 * way['busy']:.0f} %"]
            if way
            else ["-"] * 3
        )
    return cells


if __name__ == "__main__":
    sys.exit(main())
