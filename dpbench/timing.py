"""Time engines against the non-private step, and measure their memory.

Engines x batch sizes x devices. Each is alternated with the non-private step, so that the machine's
drift cancels in the ratio, in several fresh processes, whose medians the interval is drawn from: a
step's speed differs between processes. Raw times go to a store. The tutorial's loops, which
bring their own loader, are timed end to end beside the engines.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dpbench import cli, console, store, strings
from dpbench.execution import timing_plan
from dpbench.execution.timing_task import TIMED_PAIRS, TIMED_PROCESSES
from dpbench.store import history


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.timing") -> int:
    """Runs the command; returns its exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return cli.run(_parser(prog), typed, lambda given: _timing(given, typed))
    except KeyboardInterrupt:
        console.say("\nInterrupted; what was timed so far is in the store.")
        return cli.EXIT_INTERRUPTED


def _timing(given: argparse.Namespace, typed: Sequence[str]) -> int:
    """Measures every combination and prints the summary."""
    from dpbench.execution import step_times
    from dpbench.reporting import store_report, timing_table

    plan = timing_plan.plan_timings(
        given.engine,
        dataset=given.dataset,
        model=given.model,
        model_args=given.model_args,
        loss=given.loss,
        batch_size=given.batch_size,
        device=given.device,
        threads=given.threads,
        processes=given.processes,
        pairs=given.pairs,
        physical_batch_size=given.physical_batch_size,
        data_root=given.data_root,
        out=given.out,
    )
    times = step_times.measure(plan, history.asked("dpbench.timing", typed))
    summary = times.overhead
    if given.json:
        print(strings.json_text(schema_version=store.SCHEMA_VERSION, rows=summary))
    else:
        if len(times.rows):
            print(timing_table.as_text(times.rows))
        print(f'raw times: pandas.read_parquet("{plan.out}/timings")')
        written = store_report.write_report(plan.out)
        if written is not None:
            print(f"page: {written.page}")
    if not summary["alone"].all():
        console.say(
            f"* {(~summary['alone']).sum()} of {len(summary)} rows were measured while other "
            "processes ran; time again on a quiet machine before you rely on them."
        )
    for line in times.failed:
        console.say(line)
    return cli.EXIT_FAILED_TRIALS if times.failed else 0


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog,
        str(__doc__).partition("\n\n")[0],
        "0 all well; 1 some timings failed; 2 bad input; 130 interrupted",
        examples=(
            "--engine fused opacus-hooks --batch-size 64,256,1024",
            "--dataset digits --model mlp --processes 5",
        ),
        details=str(__doc__).partition("\n\n")[2],
    )
    parser.add_argument(
        "--engine",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(timing_plan.NAMES)} (default: all but fused-non-private)",
    )
    cli.add_numbers(parser, "--batch-size", whole=True, help="default: those of the sweep")
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
    cli.add_task_flags(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: results/DATASET-timing")
    parser.add_argument("--json", action="store_true", help="one object on stdout, no table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
