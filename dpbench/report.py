"""Write a store's page again, and its figures with their numbers."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dpbench import cli
from dpbench.errors import BadInput
from dpbench.privacy import budgets


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.report") -> int:
    """Runs the command; returns its exit code."""
    return cli.run(_parser(prog), arguments, _report)


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog,
        __doc__,
        "0 all well; 2 bad input; 4 nothing to report on",
        examples=("results/mnist-quick", "results/mine --answer-at 2 4"),
    )
    parser.add_argument("store", type=Path, metavar="results/NAME", help="a sweep's folder")
    cli.add_numbers(
        parser,
        "--answer-at",
        metavar="E",
        help="epsilons to answer at (default: those that its sweeps asked for, else 1 3 8)",
    )
    cli.add_choose_by(parser)
    cli.add_output_flags(parser)
    return parser


def _report(given: argparse.Namespace) -> int:
    root = given.store
    if not os.path.isdir(root):  # noqa: PTH112  # pathlib's raises where a name is too long
        raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
    answer_at = () if given.answer_at is None else budgets.epsilons(given.answer_at)

    from dpbench.reporting import store_report, terminal

    written = store_report.write_report(root, answer_at=answer_at, choose_by=given.choose_by)
    if written is None:
        print(f"{root} holds no trial and no timing yet.", file=sys.stderr)
        return cli.EXIT_NOTHING
    if not given.quiet:
        print(terminal.as_json(written) if given.json else terminal.as_text(written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
