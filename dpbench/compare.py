"""Compare two results folders: accuracy paired by seed, overhead ratios, epsilons.

What a maintainer runs after an upgrade. The table says what changed; the exit code says whether
something got worse by more than chance and the machine explain.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import command
from dpbench.trial import BadInput

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 40  # of accuracies in a terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs between two stores.

    Attributes:
        versions: As `differences.versions` gives it; the others likewise, with a column `label`.
        trials: Of both sides.
        accuracy: Of arms that have seeds in common, and of engines over these.
        overhead: Of timings that are on both sides, in the same way on the same hardware.
        epsilon: Of arms that are on both sides.
        timed_otherwise: Engines and batch sizes timed on both sides, but not in the same way.
        timed_before_only: Engines and batch sizes that are not timed any more.
        apart: As `differences.apart` gives it.
        regressions: A line for each.
    """

    versions: "pd.DataFrame"
    trials: "pd.DataFrame"
    accuracy: "pd.DataFrame"
    overhead: "pd.DataFrame"
    epsilon: "pd.DataFrame"
    timed_otherwise: int
    timed_before_only: int
    apart: tuple[str, ...]
    regressions: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether anything on one side can be held against the other: failures alone cannot."""
        statuses = self.trials[["status_before", "status_after"]]
        both = (statuses != "missing").all(axis=1) & (statuses == "ok").any(axis=1)
        return bool(both.any()) or len(self.overhead) + len(self.epsilon) > 0


def compare(before: Path, after: Path, *, tolerance: float, headroom: float) -> Comparison:
    """Reads both stores and compares them.

    Raises:
        BadInput: There is no such folder, or it cannot be read.
    """
    import pandas as pd

    from dpbench import store
    from dpbench.comparison import changes, differences

    for root in (before, after):
        if not os.path.isdir(root):  # noqa: PTH112  # which takes a name that is too long, too
            raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
    trials = [store.read_trials(root) for root in (before, after)]
    timings = [store.read_timings(root) for root in (before, after)]
    columns = [*differences.WHERE, *differences.BY]
    where = [
        pd.concat([each[columns] for each in side if len(each)] or [side[0]])
        for side in zip(trials, timings, strict=True)
    ]
    frames = (
        differences.trials(*trials),
        differences.accuracy(*trials, tolerance=tolerance),
        differences.overhead(*timings, headroom=headroom),
        differences.epsilon(*trials),
    )
    labelled = [changes.labelled(frame) for frame in frames]
    shown = labelled[0].assign(reason=labelled[0]["reason"].map(command.one_line))
    timed_before, timed_after, both_ways = (
        set(zip(each["engine"], each["batch_size"], strict=True)) for each in (*timings, frames[2])
    )
    return Comparison(
        versions=differences.versions(*where),
        trials=labelled[0],
        accuracy=labelled[1],
        overhead=labelled[2],
        epsilon=labelled[3],
        timed_otherwise=len((timed_before & timed_after) - both_ways),
        timed_before_only=len(timed_before - timed_after),
        apart=tuple(differences.apart(*trials)),
        regressions=tuple(changes.regressions(shown, *labelled[1:])),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return command.run(_parser(), arguments, _compare)


def _parser() -> command.Parser:
    from dpbench.comparison import differences

    parser = command.Parser(
        "python -m dpbench.compare",
        f"{__doc__}\n{differences.RULES}",
        "0 nothing got worse; 2 bad input; 3 a regression; 4 nothing to compare",
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
        "--out", type=Path, metavar="DIR", help="of the figure (default: results/BEFORE-AFTER)"
    )
    parser.add_argument("--json", action="store_true", help="one object on stdout, no table")
    return parser


def _compare(given: argparse.Namespace) -> int:
    if not given.tolerance >= 0:
        raise BadInput(f"Expected tolerance={given.tolerance} >= 0.")
    if not given.headroom >= 1:
        raise BadInput(f"Expected headroom={given.headroom} >= 1.")
    found = compare(given.before, given.after, tolerance=given.tolerance, headroom=given.headroom)
    empty = [
        root
        for root, side in ((given.before, "before"), (given.after, "after"))
        if (found.versions[side] == "").all()
    ]
    if given.json or not empty:
        print(_object(found) if given.json else _text(found))
    if not found.comparable:
        print(_nothing(found, given, empty), file=sys.stderr)
        return command.EXIT_NOTHING
    names = f"{given.before.resolve().name}-{given.after.resolve().name}"
    for path in _draw(found, given.out or Path("results") / names, given.tolerance):
        print(path, file=sys.stderr if given.json else sys.stdout)
    return command.EXIT_REGRESSION if found.regressions else 0


def _nothing(found: Comparison, given: argparse.Namespace, empty: Sequence[Path]) -> str:
    """Why there is nothing to compare, in one line."""
    if empty:
        roots = " and in ".join(map(str, empty))
        return f"There is no trial and no timing in {roots}: name folders that sweeps have written."
    common = f"{given.before} and {given.after} have nothing in common to compare"
    statuses = found.trials[["status_before", "status_after"]]
    if failed := int((statuses != "missing").all(axis=1).sum()):
        return f"{common}: {command.counted(failed, 'trial')} failed on both sides."
    if found.apart:
        return f"{common}: no trial of the same {', '.join(found.apart)}, and no timing."
    return f"{common}: no trial and no timing. Compare two runs of the same sweep."


def _object(found: Comparison) -> str:
    from dpbench import store

    return command.one_object(
        schema_version=store.SCHEMA_VERSION,
        comparable=found.comparable,
        regressions=found.regressions,
        versions=found.versions,
        trials=found.trials,
        accuracy=found.accuracy,
        overhead=found.overhead,
        timed_otherwise=found.timed_otherwise,
        timed_before_only=found.timed_before_only,
        epsilon=found.epsilon,
    )


def _text(found: Comparison) -> str:
    """Tables with a line between them; the regressions last."""
    from dpbench.comparison import changes

    parts = [command.table(*changes.versions_table(found.versions))]
    ended = found.trials[found.trials["status_before"] != found.trials["status_after"]]
    for (was, now), rows in ended.groupby(["status_before", "status_after"]):
        parts.append(f"{len(rows)} of {len(found.trials)} trials: {was} before, {now} after")
    moved = changes.moved(found.accuracy)
    for header, rows in (
        changes.accuracy_table(changes.worst(moved, MOST_ROWS)),
        changes.overhead_table(found.overhead),
        changes.epsilon_table(found.epsilon),
    ):
        if rows:
            parts.append(command.table(header, rows))
    parts += _notes(found, len(moved))
    parts += [f"REGRESSION {line}" for line in found.regressions]
    if found.comparable and not found.regressions:
        parts.append("No regression.")
    return "\n\n".join(parts)


def _notes(found: Comparison, moved: int) -> Iterator[str]:
    """What the tables leave out, and why."""
    from dpbench.comparison import changes

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
    if same := len(found.epsilon) - len(changes.epsilon_table(found.epsilon)[1]):
        yield f"{same} of {len(found.epsilon)} arms spend the same epsilon as before"
    if found.timed_otherwise:
        yield (
            f"{command.counted(found.timed_otherwise, 'timing')} not compared: hardware, threads, "
            "dataset or physical batch size differ"
        )
    if found.timed_before_only:
        yield f"{command.counted(found.timed_before_only, 'timing')} missing after"


def _draw(found: Comparison, out: Path, tolerance: float) -> list[Path]:
    """Writes the figure as SVG and PNG; the paths."""
    from dpbench import figures
    from dpbench.store import files

    figure = figures.differences(found.accuracy, found.overhead, found.epsilon, tolerance)
    paths = [out / f"differences{suffix}" for suffix in (".svg", ".png")]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in paths:
            drawn = io.BytesIO()
            date = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(drawn, format=path.suffix[1:], metadata=date)
            files.write_bytes(path, drawn.getvalue())
    except OSError as error:
        raise BadInput(f"Cannot write the figure to {out}: {error.strerror}.") from error
    return paths


if __name__ == "__main__":
    sys.exit(main())
