"""Check which engines compute the right steps on a model, and what a step takes.

Each engine's clipped sum is held against a plain loop over single examples, and the model against
mixing the examples of a batch. A sweep, a timing and an audit do the same before they begin.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace

from dpbench import cli, datasets, engines, models, strings
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import engine_checks, user_checks, workloads
from dpbench.execution.engine_checks import EngineCheck
from dpbench.trial import NON_PRIVATE, Workload

COLUMNS = 80
BATCH_SIZE = 64


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.check") -> int:
    """Runs the command; returns its exit code."""
    return cli.run(_parser(prog), arguments, _check)


def _check(given: argparse.Namespace) -> int:
    for name in ("batch_size", "threads"):
        if getattr(given, name) < 1:
            raise BadInput(f"Expected {name}={getattr(given, name)} >= 1.")
    import torch

    from dpbench.datasets import loading

    torch.set_num_threads(given.threads)
    root = resolution.data_root(given.data_root)
    task = workloads.workload(
        dataset=given.dataset,
        model=given.model,
        model_args=given.model_args,
        loss=given.loss,
        data_root=root,
    )
    workload = replace(task, batch_size=given.batch_size)
    models.refuse(workload.model, workload.dataset)
    datasets.steps_per_epoch(workload.dataset, given.batch_size)
    user_checks.check([engines.timing_trial(NON_PRIVATE, workload)], root)
    found = engine_checks.check(workload, loading.load(workload.dataset, root, "cpu"))
    fastest = engine_checks.fastest(found)
    if given.json:
        print(
            strings.json_text(
                **asdict(workload),
                threads=given.threads,
                fastest=fastest.engine if fastest else None,
                engines=[asdict(each) for each in found],
            )
        )
    else:
        print(_text(workload, given.threads, found, fastest))
    return cli.EXIT_FAILED_TRIALS if fastest is None else 0


def _text(
    workload: Workload, threads: int, found: Sequence[EngineCheck], fastest: EngineCheck | None
) -> str:
    """The table at 80 columns, each reason once below it."""
    title = (
        f"{workload.model} on {workload.dataset}, batch size {workload.batch_size}, "
        f"{strings.counted(threads, 'thread')}"
    )
    header = ("engine", "verdict", "ms a step", "x non-private")
    table = strings.table(header, [_cells(each) for each in found])
    reasons: dict[str, list[str]] = {}
    for each in found:
        if each.reason is not None:
            said = each.reason if each.remedy is None else f"{each.reason}; {each.remedy}"
            reasons.setdefault(said, []).append(each.engine)
    last = (
        "No private engine is right for this model."
        if fastest is None
        else f"The fastest private engine that is right: {fastest.engine}."
    )
    parts = [f"{', '.join(names)}: {said}." for said, names in reasons.items()]
    below = [textwrap.fill(part, COLUMNS, subsequent_indent="  ") for part in [*parts, last]]
    return "\n".join([textwrap.fill(title, COLUMNS), "", table, "", *below])


def _cells(check: EngineCheck) -> tuple[str, str, str, str]:
    if check.replaced_by is not None:
        return (check.engine, f"is {check.replaced_by} here", "", "")
    if check.seconds_per_step is None or check.overhead is None:
        return (check.engine, "refused", "", "")
    return (check.engine, "right", f"{1e3 * check.seconds_per_step:.2f}", f"{check.overhead:.2f}")


def _parser(prog: str) -> cli.Parser:
    summary, _, details = str(__doc__).partition("\n\n")
    parser = cli.Parser(
        prog,
        summary,
        "0 a private engine is right; 1 none is; 2 bad input",
        examples=("--dataset digits", "mlp --dataset digits --threads 2"),
        details=details,
    )
    cli.add_task_flags(parser, model="model")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=BATCH_SIZE,
        metavar="N",
        help="that steps are timed at (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--json", action="store_true", help="one object on stdout, no table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
