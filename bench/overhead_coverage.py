"""How often the interval of an overhead holds the median over many processes.

The step of an engine is timed beside the non-private step in many fresh processes, by what
`python -m dpbench.timing` itself runs. Every six of them in a row make an interval, as in a timing.
Beside it stand a Student t interval of the same six, and the interval that one process alone gives
from its pairs, as older versions drew it. What is counted is how many intervals hold the median
over all processes. These are in that median themselves, so the counts are a little too good.

    python bench/overhead_coverage.py            # about twelve minutes
    python bench/overhead_coverage.py --short    # some seconds, and no result
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from dpbench import cli, console, strings
from dpbench.analysis import step_overhead
from dpbench.analysis.statistics import CONFIDENCE
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import backend, timing_task
from dpbench.measurement import environment
from dpbench.trial import Workload

DATASET = "digits"
PAIRS = 9  # in each process; an interval of several processes takes the first TIMED_PAIRS of them
ONE, SEVERAL, STUDENT = "one process, its pairs", "{} processes, range", "{} processes, Student t"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured: each engine in groups x processes fresh processes."""

    engines: tuple[str, ...] = ("non-private", "fused")
    batch_size: int = 256
    groups: int = 10
    processes: int = timing_task.TIMED_PROCESSES
    pairs: int = PAIRS


SHORT = replace(Plan(), engines=("fused",), batch_size=64, groups=1, processes=2, pairs=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How intervals of one kind did.

    Attributes:
        engine: Over the non-private step.
        interval: Its kind.
        median: Ratio over all processes.
        least: Of the processes' medians.
        most: Of the processes' medians.
        intervals: How many there are.
        covered: How many of them hold the median.
        width: Their mean width.
    """

    engine: str
    interval: str
    median: float
    least: float
    most: float
    intervals: int
    covered: int
    width: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser("python bench/overhead_coverage.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--short", action="store_true", help="too few processes for a result")
    parser.add_argument("--json", action="store_true", help="one object with all ratios")
    return cli.run(parser, arguments, _coverage)


def _coverage(given: argparse.Namespace) -> int:
    plan = SHORT if given.short else Plan()
    timings = measured(plan)
    ratios: dict[str, list[list[float]]] = {
        engine: [
            list(of_process["seconds_per_step"] / of_process["baseline_seconds_per_step"])
            for _, of_process in timings[timings["engine"] == engine].groupby("process")
        ]
        for engine in plan.engines
    }
    found = coverage(ratios, plan.processes)
    if given.json:
        said = {
            **environment.machine(),
            "plan": asdict(plan),
            "pairs_alone": int(timings["alone"].sum()),
            "pairs": len(timings),
            "rows": [asdict(each) for each in found],
            "ratios": ratios,
        }
        print(json.dumps(said, indent=1))
    else:
        print(text(found))
    return 0


def measured(plan: Plan) -> pd.DataFrame:
    """Rows of timings.

    Raises:
        BadInput: A timing has failed.
    """
    workers = backend.Workers(
        data_root=resolution.data_root(None),
        devices=("cpu",),
        jobs=1,
        threads=1,
        physical_batch_size=backend.usual_physical_batch_size("cpu"),
    )
    workload = Workload(dataset=DATASET, model="tutorial-cnn", batch_size=plan.batch_size)
    count = plan.groups * plan.processes
    rows = []
    for part in timing_task.time_engines(
        plan.engines, workload, workers, processes=count, pairs=plan.pairs
    ):
        if part[0]["status"] != "ok":
            raise BadInput(f"The timing of {part[0]['engine']} has failed: {part[0]['reason']}")
        rows += part
        if part[0]["engine"] == plan.engines[-1]:
            console.say(f"process {part[0]['process'] + 1} of {count}")
    return pd.DataFrame(rows)


def coverage(ratios: Mapping[str, Sequence[Sequence[float]]], processes: int) -> list[Coverage]:
    """Of each engine, a row for each kind of interval.

    Args:
        ratios: Of each engine, the ratios of the pairs of each process.
        processes: In a group.
    """
    found = []
    for engine, of_engine in ratios.items():
        medians = [statistics.median(each) for each in of_engine]
        median = statistics.median(medians)
        for kind, intervals in _intervals(of_engine, processes).items():
            found.append(
                Coverage(
                    engine=engine,
                    interval=kind,
                    median=median,
                    least=min(medians),
                    most=max(medians),
                    intervals=len(intervals),
                    covered=sum(low <= median <= high for low, high in intervals),
                    width=statistics.mean(high - low for low, high in intervals),
                )
            )
    return found


def _intervals(
    of_engine: Sequence[Sequence[float]], processes: int
) -> dict[str, list[tuple[float, float]]]:
    """The intervals of each kind."""
    groups = list(_groups(of_engine, processes))
    return {
        ONE: [_interval(pd.DataFrame(_rows([each]))) for each in of_engine],
        SEVERAL.format(processes): [_interval(pd.DataFrame(_rows(group))) for group in groups],
        STUDENT.format(processes): [student([*map(statistics.median, group)]) for group in groups],
    }


def _groups(
    of_engine: Sequence[Sequence[float]], processes: int
) -> Iterator[list[Sequence[float]]]:
    for start in range(0, len(of_engine), processes):
        yield [each[: timing_task.TIMED_PAIRS] for each in of_engine[start : start + processes]]


def _rows(processes: Sequence[Sequence[float]]) -> Iterator[dict[str, Any]]:
    """Rows of timings with these ratios."""
    constant = {"engine": "any", "batch_size": 1, "device": "cpu", "alone": True}
    constant |= {"baseline_seconds_per_step": 1.0, "peak_memory_bytes": None}
    for process, pairs in enumerate(processes):
        for ratio in pairs:
            yield constant | {"process": process, "seconds_per_step": ratio}


def _interval(rows: pd.DataFrame) -> tuple[float, float]:
    """That of `step_overhead.overhead`."""
    (row,) = step_overhead.overhead(rows).to_dict("records")
    return row["overhead_ratio_low"], row["overhead_ratio_high"]


def student(medians: Sequence[float]) -> tuple[float, float]:
    """The t interval of the mean logarithm."""
    logs = np.log(medians)
    n = len(logs)
    half = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * logs.std(ddof=1) / n**0.5
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


def read(said: Mapping[str, Any]) -> list[Coverage]:
    """The rows of what `--json` printed."""
    return [Coverage(**row) for row in said["rows"]]


def text(found: Sequence[Coverage]) -> str:
    """What is printed."""
    return strings.table(
        ("engine", "processes", "interval", "holds the median", "mean width"),
        [
            (
                each.engine,
                f"{each.median:.3f} [{each.least:.3f}, {each.most:.3f}]",
                each.interval,
                f"{each.covered} of {each.intervals}",
                f"{each.width:.3f}",
            )
            for each in found
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
