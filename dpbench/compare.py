"""Compare two results folders: accuracy paired by seed, overhead ratios, epsilons.

What a maintainer runs after an upgrade. The table says what changed; the exit code says whether
something got worse by more than chance and the machine explain.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import command
from dpbench.trial import BadInput

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs between two stores.

    Attributes:
        versions: As `differences.versions` gives it; the others likewise, with a column `label`.
        trials: Of both sides.
        accuracy: Of arms and engines that are on both sides.
        overhead: Of timings that are on both sides, in the same way on the same hardware.
        epsilon: Of arms that are on both sides.
        timed_otherwise: Engines and batch sizes timed on both sides, but not in the same way.
        regressions: A line for each.
    """

    versions: "pd.DataFrame"
    trials: "pd.DataFrame"
    accuracy: "pd.DataFrame"
    overhead: "pd.DataFrame"
    epsilon: "pd.DataFrame"
    timed_otherwise: int
    regressions: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether any trial or timing is on both sides."""
        both = (self.trials[["status_before", "status_after"]] != "missing").all(axis=1)
        return bool(both.any()) or len(self.overhead) > 0


def compare(before: Path, after: Path, *, tolerance: float, headroom: float) -> Comparison:
    """Reads both stores and compares them.

    Raises:
        BadInput: There is no such folder, or it cannot be read.
    """
    import pandas as pd

    from dpbench import changes, differences, store

    for root in (before, after):
        if not root.is_dir():
            raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
    trials = [store.read_trials(root) for root in (before, after)]
    timings = [store.read_timings(root) for root in (before, after)]
    where = [
        pd.concat([each[differences.WHERE] for each in side if len(each)] or [side[0]])
        for side in zip(trials, timings, strict=True)
    ]
    frames = (
        differences.trials(*trials),
        differences.accuracy(*trials, tolerance=tolerance),
        differences.overhead(*timings, headroom=headroom),
        differences.epsilon(*trials),
    )
    labelled = [changes.labelled(frame) for frame in frames]
    timed = [set(zip(side["engine"], side["batch_size"], strict=True)) for side in timings]
    return Comparison(
        versions=differences.versions(*where),
        trials=labelled[0],
        accuracy=labelled[1],
        overhead=labelled[2],
        epsilon=labelled[3],
        timed_otherwise=max(0, len(timed[0] & timed[1]) - len(labelled[2])),
        regressions=tuple(changes.regressions(*labelled)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return command.run(_parser(), arguments, _compare)


def _parser() -> command.Parser:
    from dpbench import differences

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
    print(_object(found) if given.json else _text(found))
    if not found.comparable:
        print(
            f"{given.before} and {given.after} have no trial and no timing in common: "
            "compare two runs of the same sweep.",
            file=sys.stderr,
        )
        return command.EXIT_NOTHING
    names = f"{given.before.resolve().name}-{given.after.resolve().name}"
    for path in _draw(found, given.out or Path("results") / names, given.tolerance):
        print(path, file=sys.stderr if given.json else sys.stdout)
    return command.EXIT_REGRESSION if found.regressions else 0


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
        epsilon=found.epsilon,
    )


def _text(found: Comparison) -> str:
    """Tables with a line between them; the regressions last."""
    from dpbench import changes

    parts = [command.table(*changes.versions_table(found.versions))]
    moved = found.trials[found.trials["status_before"] != found.trials["status_after"]]
    for (was, now), rows in moved.groupby(["status_before", "status_after"]):
        parts.append(f"{len(rows)} of {len(found.trials)} trials: {was} before, {now} after")
    for header, rows in (
        changes.accuracy_table(found.accuracy),
        changes.overhead_table(found.overhead),
        changes.epsilon_table(found.epsilon),
    ):
        if rows:
            parts.append(command.table(header, rows))
    same = len(found.epsilon) - len(changes.epsilon_table(found.epsilon)[1])
    if same:
        parts.append(f"{same} of {len(found.epsilon)} arms spend the same epsilon as before")
    if found.timed_otherwise:
        parts.append(
            f"{found.timed_otherwise} timings are not compared: their hardware, threads, dataset "
            "or physical batch size differ"
        )
    parts += [f"REGRESSION {line}" for line in found.regressions]
    if found.comparable and not found.regressions:
        parts.append("No regression.")
    return "\n\n".join(parts)


def _draw(found: Comparison, out: Path, tolerance: float) -> list[Path]:
    """Writes the figure as SVG and PNG; the paths."""
    from dpbench import figures

    figure = figures.differences(found.accuracy, found.overhead, found.epsilon, tolerance)
    paths = [out / f"differences{suffix}" for suffix in (".svg", ".png")]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise BadInput(f"Cannot write the figure to {out}: {error.strerror}.") from error
    return paths


if __name__ == "__main__":
    sys.exit(main())
