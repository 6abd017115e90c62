"""Put a store's finished trials into fewer files, which are faster to read.

For stores of thousands of trials. Run it while nothing else reads or writes the
store.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dpbench import cli
from dpbench.errors import BadInput


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.compact") -> int:
    """Runs the command; returns its exit code."""
    return cli.run(_parser(prog), arguments, _compact)


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(prog, __doc__, "0 all well; 2 bad input", examples=("results/large",))
    parser.add_argument("folder", type=Path, metavar="results/NAME", help="a sweep's folder")
    return parser


def _compact(given: argparse.Namespace) -> int:
    from dpbench import store

    if not (given.folder / "trials").is_dir():
        raise BadInput(f"Expected {given.folder} to be a folder that a sweep has written.")
    print(f"{given.folder}: {store.compact(given.folder)} files were put into files of many trials")
    return 0


if __name__ == "__main__":
    sys.exit(main())
