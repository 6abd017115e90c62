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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import cli
from dpbench.errors import BadInput
from dpbench.measurement import environment

if TYPE_CHECKING:
    import pandas as pd

    from dpbench.analysis.comparison import changes, coverage
    from dpbench.reporting import documents

MOST_ROWS = 40  # of accuracies, or of what is missing, in a terminal
STDOUT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs between two stores.

    Attributes:
        versions: As `differences.versions` gives it; the next four likewise, with a column `label`.
        trials: Of both sides.
        accuracy: Of arms that have seeds in common, and of engines over these.
        overhead: Of timings that are on both sides, in the same way on the same hardware.
        epsilon: Of arms that are on both sides.
        checks: Of everything that BEFORE holds, with what is missing and what got worse.
        apart: As `differences.apart` gives it.
    """

    versions: "pd.DataFrame"
    trials: "pd.DataFrame"
    accuracy: "pd.DataFrame"
    overhead: "pd.DataFrame"
    epsilon: "pd.DataFrame"
    checks: "tuple[coverage.Check, ...]"
    apart: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether anything on one side can be held against the other: failures alone cannot."""
        statuses = self.trials[["status_before", "status_after"]]
        both = (statuses != "missing").all(axis=1) & (statuses == "ok").any(axis=1)
        return bool(both.any()) or len(self.overhead) + len(self.epsilon) > 0

    @property
    def regressions(self) -> tuple[str, ...]:
        """A line for each."""
        return tuple(
            f"{check.label}: {what}" for check in self.checks for what in check.regressions
        )

    def verdict(self, *, allow_missing: bool) -> "documents.Verdict":
        """In one word; a regression outweighs what is missing."""
        from dpbench.analysis.comparison import coverage

        if not self.comparable:
            return "nothing-to-compare"
        if self.regressions:
            return "regression"
        return "missing" if coverage.missing(self.checks) and not allow_missing else "no-regression"


def compare(before: Path, after: Path, *, tolerance: float, headroom: float) -> Comparison:
    """Reads both stores and compares them.

    Raises:
        BadInput: There is no such folder, or it cannot be read.
    """
    import pandas as pd

    from dpbench import store
    from dpbench.analysis.comparison import changes, coverage, differences

    for root in (before, after):
        if not os.path.isdir(root):  # noqa: PTH112  # which takes a name that is too long, too
            raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
    trials = [_accounted(store.read_trials(root)) for root in (before, after)]
    timings = [store.read_timings(root) for root in (before, after)]
    columns = [*differences.WHERE, *differences.BY]
    where = [
        pd.concat([each[columns] for each in side if len(each)] or [side[0]])
        for side in zip(trials, timings, strict=True)
    ]
    accuracy = changes.labelled(differences.accuracy(*trials, tolerance=tolerance))
    overhead = changes.labelled(differences.overhead(*timings, headroom=headroom))
    epsilon = changes.labelled(differences.epsilon(*trials))
    ended = changes.labelled(differences.trials(*trials))
    checks = coverage.checks(
        trials=ended.assign(reason=ended["reason"].map(cli.one_line)),
        accuracy=accuracy,
        overhead=overhead,
        epsilon=epsilon,
        arms=changes.labelled(coverage.arms(ended)),
        timings=changes.labelled(coverage.timings(*timings)),
        epsilons=changes.labelled(coverage.epsilons(trials[0], epsilon)),
    )
    return Comparison(
        versions=differences.versions(*where),
        trials=ended,
        accuracy=accuracy,
        overhead=overhead,
        epsilon=epsilon,
        checks=tuple(checks),
        apart=tuple(differences.apart(*trials)),
    )


def _accounted(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The rows, those of last epochs by one accountant; the others' epsilons are not compared."""
    import pandas as pd

    from dpbench.privacy import accounting

    last = trials["epoch"] == trials["epochs"]
    return pd.concat([accounting.by_one_accountant(trials[last]), trials[~last]]).sort_index()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for flag, value in itertools.pairwise(given):
        if flag == "--json" and os.path.isdir(value):  # noqa: PTH112  # as above
            given.insert(given.index(flag) + 1, STDOUT)  # a store, and no file to write
            break
    return cli.run(_parser(), given, _compare)


def _parser() -> cli.Parser:
    from dpbench.analysis.comparison import coverage, differences

    parser = cli.Parser(
        "python -m dpbench.compare",
        f"{__doc__}\n{coverage.RULES}\n\n{differences.RULES}",
        "0 all was checked and nothing got worse; 2 bad input; 3 a regression, or something is "
        "missing; 4 nothing to compare",
    )
    parser.add_argument("before", type=Path, metavar="results/BEFORE")
    parser.add_argument("after", type=Path, metavar="results/AFTER")
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
        "the tables to stderr",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="as for a GitHub job summary")
    parser.add_argument(
        "--junit", type=Path, metavar="FILE", help="JUnit XML, each check a test case"
    )
    return parser


def _compare(given: argparse.Namespace) -> int:
    if not given.tolerance >= 0:
        raise BadInput(f"Expected tolerance={given.tolerance} >= 0.")
    if not given.headroom >= 1:
        raise BadInput(f"Expected headroom={given.headroom} >= 1.")
    found = compare(given.before, given.after, tolerance=given.tolerance, headroom=given.headroom)
    verdict = found.verdict(allow_missing=given.allow_missing)
    why = _why(found, given, verdict)
    said = sys.stderr if given.json == STDOUT else sys.stdout
    print(_text(found, why), file=said)
    for path, content in _documents(found, given, verdict, why):
        _write(path, content)
    if given.json == STDOUT:
        print(_object(found, given, verdict))
    if verdict == "nothing-to-compare":
        print(why, file=sys.stderr)
        return cli.EXIT_NOTHING
    names = f"{given.before.resolve().name}-{given.after.resolve().name}"
    for path in _draw(found, given.out or Path("results") / names, given.tolerance):
        print(path, file=said)
    return 0 if verdict == "no-regression" else cli.EXIT_REGRESSION


def _why(found: Comparison, given: argparse.Namespace, verdict: str) -> str:
    """What the verdict rests on, in one line."""
    from dpbench.analysis.comparison import coverage

    if verdict == "nothing-to-compare":
        return _nothing(found, given)
    gone = [check.kind for check in coverage.missing(found.checks)]
    counts = [cli.counted(gone.count(kind), kind) for kind in coverage.KINDS if kind in gone]
    missing = f"Missing in {given.after}, and not checked: {', '.join(counts)}"
    if verdict == "missing":
        return f"{missing}. --allow-missing lets that pass."
    also = f" {missing} (--allow-missing)." if given.allow_missing and gone else ""
    if verdict == "regression":
        return f"{cli.counted(len(found.regressions), 'regression')}.{also}"
    return f"No regression.{also}"


def _nothing(found: Comparison, given: argparse.Namespace) -> str:
    """Why there is nothing to compare."""
    empty = [
        str(root)
        for root, side in ((given.before, "before"), (given.after, "after"))
        if (found.versions[side] == "").all()
    ]
    if empty:
        roots = " and in ".join(empty)
        return f"There is no trial and no timing in {roots}: name folders that sweeps have written."
    common = f"{given.before} and {given.after} have nothing in common to compare"
    statuses = found.trials[["status_before", "status_after"]]
    if failed := int((statuses != "missing").all(axis=1).sum()):
        return f"{common}: {cli.counted(failed, 'trial')} failed on both sides."
    if found.apart:
        return f"{common}: no trial of the same {', '.join(found.apart)}, and no timing."
    return f"{common}: no trial and no timing. Compare two runs of the same sweep."


def _documents(
    found: Comparison, given: argparse.Namespace, verdict: "documents.Verdict", why: str
) -> Iterator[tuple[Path, bytes]]:
    """The files that were asked for: path and content."""
    from dpbench.analysis.comparison import changes
    from dpbench.reporting import documents

    if given.markdown:
        tables = [changes.versions_table(found.versions), *_tables(found)]
        text = documents.markdown(verdict, why, found.checks, tables, list(_notes(found)))
        yield given.markdown, text.encode()
    if given.junit:
        missing = given.allow_missing
        yield given.junit, documents.junit(verdict, why, found.checks, allow_missing=missing)
    if given.json not in (None, STDOUT):
        yield Path(given.json), f"{_object(found, given, verdict)}\n".encode()


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole; to a pipe or a device, as it is."""
    from dpbench.store import files

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            with path.open("wb") as file:  # /dev/stdout must not be replaced by a file
                file.write(content)
        else:
            files.write_bytes(path, content)
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from error


def _object(found: Comparison, given: argparse.Namespace, verdict: str) -> str:
    from dpbench import store
    from dpbench.analysis.comparison import coverage

    gone = coverage.missing(found.checks)
    return cli.one_object(
        verdict=verdict,
        checked=coverage.counts(found.checks),
        allow_missing=given.allow_missing,
        missing=[
            {"kind": check.kind, "label": check.label, "reason": check.missing} for check in gone
        ],
        regressions=found.regressions,
        schema_version=store.SCHEMA_VERSION,
        comparable=found.comparable,
        versions=found.versions,
        trials=found.trials,
        accuracy=found.accuracy,
        overhead=found.overhead,
        epsilon=found.epsilon,
    )


def _text(found: Comparison, why: str) -> str:
    """What was checked; tables with a line between them; what is missing or worse; the verdict."""
    from dpbench.analysis.comparison import changes, coverage

    parts = [coverage.summary(found.checks)]
    if (found.versions[["before", "after"]] == "").all().any():  # one side is empty
        return parts[0]
    parts.append(cli.table(*changes.versions_table(found.versions)))
    ended = found.trials[found.trials["status_before"] != found.trials["status_after"]]
    for (was, now), rows in ended.groupby(["status_before", "status_after"]):
        parts.append(f"{len(rows)} of {len(found.trials)} trials: {was} before, {now} after")
    parts += [cli.table(header, rows) for header, rows in _tables(found) if rows]
    parts += _notes(found)
    parts += ["\n".join(_missing(found))]
    parts += ["\n".join(f"REGRESSION {line}" for line in found.regressions)]
    if found.comparable:
        parts.append(why)
    return "\n\n".join(filter(None, parts))


def _tables(found: Comparison) -> "Iterator[changes.Table]":
    """Of accuracies, overhead ratios and epsilons."""
    from dpbench.analysis.comparison import changes

    yield changes.accuracy_table(changes.worst(changes.moved(found.accuracy), MOST_ROWS))
    yield changes.overhead_table(found.overhead)
    yield changes.epsilon_table(found.epsilon)


def _missing(found: Comparison) -> Iterator[str]:
    """A line for each arm, timing and epsilon that is missing, or one for all of a kind."""
    from dpbench.analysis.comparison import coverage

    gone = coverage.missing(found.checks)
    for kind in coverage.KINDS:
        these = [check for check in gone if check.kind == kind]
        every = sum(check.kind == kind for check in found.checks)
        reasons = {check.missing for check in these}
        if kind == "arm" and not any(check.in_part for check in these):
            shared = f" of the same {', '.join(found.apart)}" if found.apart else " of them"
            reasons = {f"AFTER has no trial{shared}"}
        if len(these) == every > 1 and len(reasons) == 1:
            yield f"MISSING all {every:,} {kind}s: {reasons.pop()}"
            continue
        for check in these[:MOST_ROWS]:
            yield f"MISSING {check.label}: {check.missing}"
        if len(these) > MOST_ROWS:
            yield f"{len(these) - MOST_ROWS:,} more {kind}s are missing: --json has all"


def _notes(found: Comparison) -> Iterator[str]:
    """What the tables leave out, and why."""
    from dpbench.analysis.comparison import changes

    moved = len(changes.moved(found.accuracy))
    if moved > MOST_ROWS:
        yield f"{moved - MOST_ROWS} more arms differ, which fall less or rise: --json has all"
    if still := len(found.accuracy) - moved:
        arms = int((found.accuracy["arms"] == 1).sum())
        yield f"{still} of {arms} arms reach the same accuracy as before, seed by seed"
    if len(found.accuracy) and found.accuracy["seeds"].max() == 1:
        yield (
            "One seed has no interval, so that only a collapse is seen: sweep both sides with "
            "--seeds 0 1 2 to see more"
        )
    if len(found.epsilon) and found.accuracy.empty:
        yield "No accuracies are compared: no seed of an arm has one on both sides"
    processors = found.overhead[found.overhead["device"] == "cpu"]["device_name"].dropna().unique()
    for name in processors:
        if not environment.tells_the_model(name):
            yield f"{name} names no model: timings of unlike machines of that name look alike"
    if same := len(found.epsilon) - len(changes.epsilon_table(found.epsilon)[1]):
        yield f"{same} of {len(found.epsilon)} arms spend the same epsilon as before"


def _draw(found: Comparison, out: Path, tolerance: float) -> list[Path]:
    """Writes the figures as SVG, PNG and CSV; the paths."""
    from dpbench.reporting import figure_files, figure_specs

    frames = figure_specs.ComparisonFrames(
        accuracy=found.accuracy,
        overhead=found.overhead,
        epsilon=found.epsilon,
        tolerance=tolerance,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"Cannot write the figure to {out}: {error.strerror}.") from error
    drawn = figure_specs.drawn(frames)
    for each in drawn:
        figure_files.write(out, each)
    suffixes = figure_files.SUFFIXES
    return [out / f"{each.name}{suffix}" for each in drawn for suffix in suffixes]


if __name__ == "__main__":
    sys.exit(main())
