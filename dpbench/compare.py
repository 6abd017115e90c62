"""Compare two results folders: accuracy paired by seed, overhead ratios, epsilons.

What a maintainer runs after an upgrade. The first line says how much of BEFORE was checked, the
tables what changed, and the exit code whether something got worse by more than chance and the
machine explain, or could not be checked.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import cli

if TYPE_CHECKING:
    from dpbench.analysis.comparison.stores import Comparison, Verdict

STDOUT = "-"


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.compare") -> int:
    """Runs the command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for flag, value in itertools.pairwise(given):
        if flag == "--json" and os.path.isdir(value):  # noqa: PTH112  # of a name too long, too
            given.insert(given.index(flag) + 1, STDOUT)  # a store, and no file to write
            break
    return cli.run(_parser(prog), given, _compare)


def _parser(prog: str) -> cli.Parser:
    from dpbench.analysis.comparison import coverage, differences

    parser = cli.Parser(
        prog,
        str(__doc__).partition("\n\n")[0],
        "0 all was checked and nothing got worse; 2 bad input; 3 a regression, or something is "
        "missing; 4 nothing to compare",
        examples=(
            "results/before results/after",
            "results/before results/after --junit results/junit.xml",
        ),
        details="\n".join(
            [str(__doc__).partition("\n\n")[2], coverage.RULES, "", differences.RULES]
        ),
    )
    parser.add_argument(
        "before", type=Path, metavar="results/BEFORE", help="the store to compare with"
    )
    parser.add_argument("after", type=Path, metavar="results/AFTER", help="the store to check")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=differences.TOLERANCE,
        metavar="X",
        help="fall of accuracy that is allowed, a fraction (default: %(default)s)",
    )
    parser.add_argument(
        "--headroom",
        type=float,
        default=differences.HEADROOM,
        metavar="X",
        help="growth of an overhead ratio that is allowed (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="pass, and say so, where arms or timings of BEFORE cannot be checked",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="of the figure (default: results/BEFORE-AFTER)"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="write one object, which opens with the verdict, to FILE; without FILE to stdout, and "
        "the tables to stderr (default: no JSON)",
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="such as $GITHUB_STEP_SUMMARY (default: none)"
    )
    parser.add_argument(
        "--junit", type=Path, metavar="FILE", help="each check a test case (default: none)"
    )
    return parser


def _compare(given: argparse.Namespace) -> int:
    """Compares, prints and writes what is asked for; the exit code is that of the verdict."""
    from dpbench.analysis.comparison.stores import compare_stores
    from dpbench.reporting import comparison_files, comparison_text

    found = compare_stores(
        given.before, given.after, tolerance=given.tolerance, headroom=given.headroom
    )
    verdict = found.verdict(allow_missing=given.allow_missing)
    why = comparison_text.reason(
        found,
        verdict,
        before=given.before,
        after=given.after,
        allow_missing=given.allow_missing,
    )
    stream = sys.stderr if given.json == STDOUT else sys.stdout
    print(comparison_text.as_text(found, why), file=stream)
    for path, content in _documents(found, given, verdict, why):
        comparison_files.write_document(path, content)
    if given.json == STDOUT:
        print(comparison_text.as_json(found, verdict, allow_missing=given.allow_missing))
    if verdict == "nothing-to-compare":
        print(why, file=sys.stderr)
        return cli.EXIT_NOTHING
    names = f"{given.before.resolve().name}-{given.after.resolve().name}"
    out = given.out or Path("results") / names
    for path in comparison_files.write_figures(found, out, given.tolerance):
        print(path, file=stream)
    return 0 if verdict == "no-regression" else cli.EXIT_REGRESSION


def _documents(
    found: "Comparison", given: argparse.Namespace, verdict: "Verdict", why: str
) -> Iterator[tuple[Path, bytes]]:
    """The files that are asked for: path and content."""
    from dpbench.analysis.comparison import changes
    from dpbench.reporting import comparison_text, documents

    missing = given.allow_missing
    if given.markdown:
        tables = [changes.versions_table(found.versions), *comparison_text.tables(found)]
        notes = list(comparison_text.notes(found))
        yield given.markdown, documents.markdown(verdict, why, found.checks, tables, notes).encode()
    if given.junit:
        yield given.junit, documents.junit(verdict, why, found.checks, allow_missing=missing)
    if given.json not in (None, STDOUT):
        text = comparison_text.as_json(found, verdict, allow_missing=missing)
        yield Path(given.json), f"{text}\n".encode()


if __name__ == "__main__":
    sys.exit(main())
