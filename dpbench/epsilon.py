"""Compute the epsilon of a DP-SGD run, or the noise that a target epsilon needs.

Nothing is trained. Name the run by --examples, --batch-size and --epochs, or by
--sample-rate and --steps.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields

from dpbench import cli, console, strings
from dpbench.errors import BadInput
from dpbench.privacy import guarantee, run_count
from dpbench.privacy.calculator import spent_by_run
from dpbench.privacy.dpsgd_run import PrivateRun, private_run
from dpbench.privacy.spending import SpentEpsilon
from dpbench.trial import SAMPLINGS

JSON_VERSION = 1
_ASKED = ("noise_multiplier", "target_epsilon", "total_epsilon")
_HEADER = ("noise multiplier", "epsilon", "by", "PLD", "RDP", "delta", "sample rate", "steps")
_SEARCH_HEADER = (
    *("noise", "epsilon of one", "best of", "in all"),
    *("delta", "sample rate", "steps"),
)


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.epsilon") -> int:
    """Runs the command; returns its exit code."""
    return cli.run(_parser(prog), arguments, _epsilon)


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog,
        str(__doc__).strip(),
        "0 all well; 2 bad input",
        examples=(
            "--examples 60000 --batch-size 256 --epochs 10 --noise 1.1",
            "--examples 60000 --batch-size 256 --epochs 10 --epsilon 1,3,8",
            "--sample-rate 0.01 --steps 10000 --noise log:1:8:4",
            "--sample-rate 0.01 --steps 1000 --search 20 --total-epsilon 3",
        ),
    )
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--examples", type=int, metavar="N", help="size of the training set (or --sample-rate)"
    )
    run.add_argument(
        "--batch-size", type=int, metavar="N", help="expected size of a batch (or --sample-rate)"
    )
    run.add_argument(
        "--epochs", type=int, metavar="N", help="of round(examples / batch size) steps (or --steps)"
    )
    run.add_argument(
        "--sample-rate",
        type=float,
        metavar="X",
        help="batch size over N, instead of --examples and --batch-size",
    )
    run.add_argument("--steps", type=int, metavar="N", help="instead of --epochs")
    run.add_argument(
        "--sampling",
        choices=SAMPLINGS,
        default="poisson",
        help="how batches are drawn; shuffled ones have no amplification (default: poisson)",
    )
    run.add_argument("--delta", type=float, default=1e-5, metavar="X", help="default: 1e-5")
    asked = parser.add_argument_group("what is known")
    cli.add_numbers(
        asked,
        "--noise-multiplier",
        help="noise over clipping norm; its epsilon is computed (or --target-epsilon)",
    )
    cli.add_numbers(
        asked,
        "--target-epsilon",
        help="instead: the least noise multiplier that spends no more is solved for",
    )
    cli.add_numbers(
        asked, "--total-epsilon", help="instead, with --search: the same for the whole search"
    )
    asked.add_argument(
        "--search",
        metavar="[KIND:]MEAN",
        help="the best of a random number of such runs, and nothing of the others, is published; "
        f"KIND of {', '.join(run_count.DISTRIBUTIONS)} (default: no search; KIND: "
        f"{run_count.DEFAULT})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _epsilon(given: argparse.Namespace) -> int:
    """Prints a row for each noise multiplier or target, and a paragraph on each."""
    run = private_run(**{each.name: getattr(given, each.name) for each in fields(PrivateRun)})
    search = None if given.search is None else run_count.parsed(given.search)
    asked = {name: getattr(given, name) or () for name in _ASKED}
    if sum(map(bool, asked.values())) != 1:
        raise BadInput("Expected one of --noise-multiplier, --target-epsilon and --total-epsilon.")
    rows = [
        spent_by_run(run, search=search, **{name: value})
        for name, values in asked.items()
        for value in values
    ]
    if given.json:
        print(
            strings.json_text(
                schema_version=JSON_VERSION,
                run=asdict(run),
                warnings=[run.warning] if run.warning else [],
                rows=[asdict(row) for row in rows],
            )
        )
        return 0
    header = _HEADER if search is None else _SEARCH_HEADER
    print(strings.table(header, [_cells(run, row) for row in rows], console.columns()))
    for row in rows:
        print(f"\n{row.statement}")
        if (row.target_epsilon, row.total_epsilon) != (None, None):
            print(
                f"Noise multiplier {row.noise_multiplier:g} is for this {_this(run)}"
                f"{'' if search is None else ' in this search'} only: solve again when one of "
                "them changes."
            )
    if run.warning:
        console.say(f"Warning: {run.warning}")
    return 0


def _this(run: PrivateRun) -> str:
    if run.sampling == "shuffle":
        return "number of epochs and delta"
    return "sample rate (batch size over N), number of steps and delta"


def _cells(run: PrivateRun, row: SpentEpsilon) -> list[str]:
    accountants = [
        guarantee.ACCOUNTANTS[row.accountant] if row.accountant != "gaussian" else "exact",
        "-" if row.epsilon_pld is None else f"{row.epsilon_pld:.4g}",
        "-" if row.epsilon_rdp is None else f"{row.epsilon_rdp:.4g}",
    ]
    return [
        f"{row.noise_multiplier:g}",
        f"{row.epsilon:.4g}",
        *(
            accountants
            if row.search is None
            else [row.search, guarantee.rounded_up(row.epsilon_of_search or 0.0)]
        ),
        guarantee.short(run.delta),
        "-" if run.sample_rate is None else f"{run.sample_rate:.6g}",
        "-" if run.steps is None else f"{run.steps:,}",
    ]


if __name__ == "__main__":
    sys.exit(main())
