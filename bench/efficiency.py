"""python bench/efficiency.py: how much of a sweep's time its workers spend in training steps.

Runs the default sweep on MNIST, two seeds, from nothing: imports, start-up, evaluation, accounting,
files and the report are in its wall time; that the kernel is compiled, once on a machine, is not.
Exits with 3 below what is wanted.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dpbench import cli, engines, store, strings
from dpbench.analysis import trial_rows
from dpbench.datasets import loading, resolution
from dpbench.measurement import devices, environment

WANTED = 0.85  # of a sweep of two minutes or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A sweep's wall time, and what of it was spent in training steps."""

    trials: int
    workers: int
    wall_seconds: float
    train_seconds: float

    @property
    def share(self) -> float:
        return self.train_seconds / (self.workers * self.wall_seconds)

    def __str__(self) -> str:
        return (
            f"{self.trials} trials by {self.workers} workers in {self.wall_seconds:.0f} s: "
            f"{100 * self.share:.0f} % of their time was in training steps "
            f"(wanted: {100 * WANTED:.0f} %)"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.Parser("python bench/efficiency.py", __doc__, "0 all well; 3 too little")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="N")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="as the sweep's")
    parser.add_argument(
        "--short", action="store_true", help="a small sweep on digits: whether it runs"
    )
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    jobs = devices.cores()
    dataset, root = "digits" if given.short else "mnist", resolution.data_root(given.data_root)
    loading.load(dataset, root, "cpu")  # says what is missing, before the sweep
    engines.prepare()
    with tempfile.TemporaryDirectory() as folder:
        asked = ["--dataset", dataset, "--no-timing", "--quiet", "--device", "cpu", "--out", folder]
        asked += ["--data-root", str(root), "--jobs", str(jobs)]
        asked += ["--seeds", *map(str, given.seeds)]
        if given.short:
            asked += ["--epochs", "1", "--batch-size", "256", "--noise-multiplier", "1"]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dpbench.sweep", *asked], check=True)  # noqa: S603
        wall = time.perf_counter() - start
        trials = trial_rows.final(store.read_trials(Path(folder)))
    measured = Measured(
        trials=len(trials),
        workers=jobs,
        wall_seconds=wall,
        train_seconds=float(trials["train_seconds"].sum()),
    )
    if given.json:
        found = asdict(measured) | {"share": measured.share, "wanted": WANTED}
        print(strings.json_text(seeds=given.seeds, machine=environment.machine(), **found))
    else:
        print(measured)
    return 0 if given.short or measured.share >= WANTED else cli.EXIT_REGRESSION


if __name__ == "__main__":
    sys.exit(main())
