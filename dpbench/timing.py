"""Time engines against the non-private step, and measure the memory of their steps.

Engines x batch sizes x devices. Each is alternated with the non-private step, so that the machine's
drift cancels in the ratio, in several fresh processes, whose medians the interval is drawn from: a
step's speed differs between processes. Raw times go to a store. The tutorial's loops, which
bring their own loader, are timed end to end beside the engines.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dpbench import cli, store
from dpbench.analysis import step_overhead
from dpbench.datasets import catalogue
from dpbench.errors import BadInput
from dpbench.execution import grid, sweeping
from dpbench.execution.progress import Progress
from dpbench.execution.runner import TIMED_PAIRS, TIMED_PROCESSES, Workers
from dpbench.reporting import quantities, timing_caveats
from dpbench.store import history
from dpbench.trial import NON_PRIVATE, PRIVATE_ENGINES, TUTORIAL_ARMS, TimedName

if TYPE_CHECKING:
    import pandas as pd

NAMES: tuple[TimedName, ...] = get_args(TimedName)
# non-private against itself is the noise floor; the tutorial's loops run on a CPU alone
DEFAULT: tuple[TimedName, ...] = (NON_PRIVATE, *PRIVATE_ENGINES, *TUTORIAL_ARMS)
HEADER = (
    "engine",
    "batch",
    "device",
    "ratio",
    "interval",
    "examples/s",
    "spread",
    "memory",
    "processes",
    "pairs",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return cli.run(_parser(), typed, lambda given: _timing(given, typed))
    except KeyboardInterrupt:
        print("\nInterrupted; what was timed so far is in the store.", file=sys.stderr)
        return cli.EXIT_INTERRUPTED


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m dpbench.timing",
        __doc__,
        "0 all well; 1 some timings failed; 2 bad input; 130 interrupted",
    )
    parser.add_argument(
        "--engine",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(NAMES)} (default: all but fused-non-private)",
    )
    parser.add_argument(
        "--batch-size", type=int, nargs="+", metavar="N", help="default: those of the sweep"
    )
    parser.add_argument(
        "--device",
        nargs="+",
        default=["auto"],
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1 ...; each is measured in its turn (default: auto)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--processes",
        type=int,
        default=TIMED_PROCESSES,
        metavar="N",
        help="fresh processes that each timing is measured in (default: %(default)s)",
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=TIMED_PAIRS,
        metavar="N",
        help="in each process (default: %(default)s)",
    )
    parser.add_argument(
        "--physical-batch-size",
        type=int,
        metavar="N",
        help="most examples in one forward pass (default: 256 on a CPU, 2048 on a GPU)",
    )
    parser.add_argument(
        "--dataset",
        default=catalogue.AUTO,
        help=f"{catalogue.AUTO} or one of {', '.join(catalogue.DATASETS)}",
    )
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="as the sweep's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: results/DATASET-timing")
    parser.add_argument("--json", action="store_true", help="one object on stdout, no table")
    return parser


def _timing(given: argparse.Namespace, typed: Sequence[str]) -> int:
    """Measures every combination and prints what it came to."""
    for name in ("threads", "processes", "pairs", "physical_batch_size"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise BadInput(f"Expected {name}={value} >= 1.")
    data_root = cli.data_root(given.data_root)
    dataset = cli.dataset(given.dataset, data_root)
    names = _names(given.engine)
    batch_sizes = given.batch_size or grid.defaults(dataset)["batch_size"]
    for batch_size in batch_sizes:
        if batch_size < 1:
            raise BadInput(f"Expected batch_size={batch_size} >= 1.")
        catalogue.steps_per_epoch(dataset, batch_size)  # raises where the batch is too large
    devices = cli.devices(given.device)
    out = given.out or Path("results") / f"{dataset}-timing"
    every = [
        (engines, batch_size, device)
        for device in devices
        for batch_size in dict.fromkeys(batch_sizes)
        # the tutorial's loader feeds no GPU
        if (engines := [name for name in names if device == "cpu" or name not in TUTORIAL_ARMS])
    ]
    if not every:
        raise BadInput(f"Expected an engine that runs on {', '.join(devices)}, not {names}.")
    store.create(out)
    history.write(out, history.asked("dpbench.timing", typed))
    frame, failed = _measure(every, dataset, data_root, given, out)
    summary = step_overhead.overhead(frame) if len(frame) else frame.assign(alone=[])
    if given.json:
        print(cli.one_object(schema_version=store.SCHEMA_VERSION, rows=summary))
    else:
        if len(frame):
            print(as_text(frame, dataset))
        print(f'raw times: pandas.read_parquet("{out}/timings")')
        from dpbench.reporting import store_report

        written = store_report.write_report(out)
        if written is not None:
            print(f"page: {written.page}")
    if not summary["alone"].all():
        print(
            f"* {(~summary['alone']).sum()} of {len(summary)} rows were measured while other "
            "processes ran; time again on a quiet machine before you rely on them.",
            file=sys.stderr,
        )
    for line in failed:
        cli.say(line)
    return cli.EXIT_FAILED_TRIALS if failed else 0


def _names(asked: Sequence[str] | None) -> tuple[TimedName, ...]:
    for name in asked or ():
        if name not in NAMES:
            raise BadInput(f"Expected engine={name!r} to be one of {', '.join(NAMES)}.")
    return tuple(name for name in NAMES if name in (asked or DEFAULT))


def _measure(
    every: Sequence[tuple[Sequence[TimedName], int, str]],
    dataset: str,
    data_root: Path,
    given: argparse.Namespace,
    out: Path,
) -> "tuple[pd.DataFrame, list[str]]":
    """Times engines and writes their rows, in place of older ones under the same conditions.

    Args:
        every: Engines with a batch size and a device.
        dataset: What they train on.
        data_root: Where that is.
        given: The flags.
        out: The store.

    Returns:
        The rows, and a line for each that has failed.
    """
    import pandas as pd

    from dpbench.execution import runner

    rows, failures = [], []
    count = sum(len(engines) for engines, _, _ in every)
    with Progress(count, count * given.processes, what="timings") as progress:
        for engines, batch_size, device in every:
            workers = Workers(
                data_root=data_root,
                devices=(device,),
                jobs=1,
                threads=given.threads,
                physical_batch_size=given.physical_batch_size
                or runner.usual_physical_batch_size(device),
            )
            measured = runner.time_engines(
                engines,
                batch_size,
                dataset,
                workers,
                processes=given.processes,
                pairs=given.pairs,
            )
            with closing(measured) as parts:
                for timed in sweeping.whole_timings(parts, given.processes, progress):
                    sweeping.write_timing(out, timed)
                    if timed[0]["status"] != "ok":
                        failures.append(sweeping.failed_timing(timed))
                    else:
                        rows += timed
    return pd.DataFrame(rows), failures


def as_text(frame: "pd.DataFrame", dataset: str) -> str:
    """What is printed of timings.

    Args:
        frame: Rows of `store.read_timings`, of one machine.
        dataset: They were measured on.
    """
    where = frame.iloc[0]
    summary = step_overhead.overhead(frame).sort_values(
        ["device", "batch_size", "engine"],
        key=lambda column: column.map(NAMES.index) if column.name == "engine" else column,
    )
    lines = [
        f"{dataset}, {where['device_name']}, {where['threads']} thread(s), torch "
        f"{where['torch_version']}, opacus {where['opacus_version']}; time of a step over the "
        f"{NON_PRIVATE} step's",
        cli.table(HEADER, map(_cells, summary.to_dict("records"))),
    ]
    if NON_PRIVATE in set(summary["engine"]):
        lines.append(f"{NON_PRIVATE} against itself is the noise floor.")
    lines += map(str, timing_caveats.of_one_process(summary))
    shipped = summary[summary["engine"].isin(TUTORIAL_ARMS)].pivot(
        index=["batch_size", "device"], columns="engine", values="overhead_ratio"
    )
    if set(TUTORIAL_ARMS) <= set(shipped.columns):
        times = shipped["opacus-as-shipped"] / shipped["tutorial-non-private"]
        for (batch_size, _), ratio in times.items():
            lines.append(
                f"opacus-as-shipped takes {ratio:.2f} times as long as tutorial-non-private at "
                f"batch size {batch_size}."
            )
    return "\n".join(lines)


def _cells(row: "dict[str, float]") -> list[str]:
    memory = row["peak_memory_bytes"]
    ratio, low, high = quantities.ratio(
        row["overhead_ratio"], row["overhead_ratio_low"], row["overhead_ratio_high"]
    )
    return [
        str(row["engine"]),
        str(row["batch_size"]),
        str(row["device"]),
        ratio,
        f"[{low}, {high}]",
        f"{row['examples_per_second']:,.0f}",
        f"{100 * row['spread']:.0f} %",
        "-" if math.isnan(memory) else _mebibytes(memory),
        str(row["processes"]),
        f"{row['pairs']}{'' if row['alone'] else '*'}",
    ]


def _mebibytes(size: float) -> str:
    least = 0.1 * 2**20
    return f"{size / 2**20:,.1f} MiB" if size >= least else "< 0.1 MiB"


if __name__ == "__main__":
    sys.exit(main())
