"""python bench/efficiency.py: how much of a sweep's time its workers spend in training steps.

Runs the default sweep on MNIST, two seeds, from nothing: imports, start-up, evaluation, accounting,
files and the report are in its wall time. Exits with 3 below what is wanted.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dpbench import analysis, command, store

WANTED = 0.85  # of a sweep of two minutes or more


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.Parser("python bench/efficiency.py", __doc__, "0 all well; 3 too little")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="N")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="as the sweep's")
    return command.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    jobs = command.cores()
    with tempfile.TemporaryDirectory() as folder:
        asked = ["--dataset", "mnist", "--no-timing", "--quiet", "--device", "cpu", "--out", folder]
        asked += ["--data-root", str(command.data_root(given.data_root)), "--jobs", str(jobs)]
        asked += ["--seeds", *map(str, given.seeds)]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dpbench.sweep", *asked], check=True)  # noqa: S603
        wall = time.perf_counter() - start
        trials = analysis.final(store.read_trials(Path(folder)))
    share = trials["train_seconds"].sum() / (jobs * wall)
    print(
        f"{len(trials)} trials by {jobs} workers in {wall:.0f} s: {100 * share:.0f} % of their "
        f"time was in training steps (wanted: {100 * WANTED:.0f} %)"
    )
    return 0 if share >= WANTED else command.EXIT_REGRESSION


if __name__ == "__main__":
    sys.exit(main())
