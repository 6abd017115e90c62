"""python -m dpbench.report: a store -> figures."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dpbench.trial import BadInput

NOTHING = 4  # exit code: there is nothing to report on


def write(root: Path) -> list[Path]:
    """Draws the store's figures into its folder, as SVG and PNG; the paths written.

    Raises:
        BadInput: The store cannot be read, or its folder cannot be written to.
    """
    from dpbench import analysis, figures, store

    trials, timings = store.read_trials(root), store.read_timings(root)
    private = analysis.private(analysis.ok(trials))
    drawn = {}
    if (private["epsilon"] < float("inf")).any():
        drawn["privacy_accuracy"] = figures.privacy_accuracy(trials)
    if len(timings):
        drawn["overhead"] = figures.overhead(timings)
    paths = []
    try:
        for name, figure in drawn.items():
            for suffix, metadata in ((".svg", {"Date": None}), (".png", None)):
                path = root / f"{name}{suffix}"
                figure.savefig(path, metadata=metadata)
                paths.append(path)
    except OSError as error:
        raise BadInput(f"Cannot write figures to {root}: {error.strerror}.") from error
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dpbench.report", description=__doc__)
    parser.add_argument("store", type=Path, metavar="results/NAME", help="a sweep's folder")
    root = parser.parse_args(arguments).store
    try:
        if not root.is_dir():
            raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
        paths = write(root)
    except BadInput as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    if not paths:
        print(f"{root} holds no finished trial and no timing yet.", file=sys.stderr)
        return NOTHING
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
