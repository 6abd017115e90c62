"""python bench/peers/race.py: dpbench's sweep against the tutorial's program, in wall time.

The same trials on MNIST: by the tutorial's program one after another, by it two at a time with one
thread each, and by `python -m dpbench.sweep`. Every contestant starts from nothing, so that imports
and start-up count; but dpbench's kernel is compiled before, as it is once on a machine. A machine's
speed drifts within the quarter of an hour that this takes: so each of the tutorial's programs runs
between two runs of each sweep, whose mean counts. Prints a table and, with --json, one object. Run
it on a quiet machine.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dpbench import cli, engines, strings
from dpbench.datasets import loading, resolution
from dpbench.measurement import environment

HERE = Path(__file__).parent
NOISES, CLIPS = (0.7, 1.0, 1.3, 1.6), (1.0, 1.5)
LEARNING_RATE = "0.05"  # the tutorial's
ENGINES = ("fused", "opacus-hooks")
# (engine, peer): how many times as fast the sweep must be
WANTED = {
    ("fused", "one after another"): 10.0,
    ("fused", "two at a time"): 6.0,
    ("opacus-hooks", "one after another"): 2.5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Wall times of the tutorial's program, run in one way, and of sweeps by an engine."""

    engine: str
    tutorial: str
    tutorial_seconds: float
    before_seconds: float
    after_seconds: float

    @property
    def sweep_seconds(self) -> float:
        """The mean of the sweep before the tutorial's program and the one after it."""
        return (self.before_seconds + self.after_seconds) / 2

    @property
    def times_as_fast(self) -> float:
        return self.tutorial_seconds / self.sweep_seconds

    @property
    def wanted(self) -> float:
        """0 where nothing is."""
        return WANTED.get((self.engine, self.tutorial), 0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the race; exit code 3 where a ratio is below what is wanted."""
    parser = cli.Parser("python bench/peers/race.py", __doc__, "0 all well; 3 too slow")
    parser.add_argument("--trials", type=int, default=8, choices=range(2, 9), metavar="2..8")
    parser.add_argument("--epochs", type=int, default=3, metavar="N")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="as the sweep's")
    parser.add_argument(
        "--short", action="store_true", help="two trials of an epoch: whether it runs, not how fast"
    )
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return cli.run(parser, arguments, _race)


def _race(given: argparse.Namespace) -> int:
    root = resolution.data_root(given.data_root)
    loading.load("mnist", root, "cpu")  # says what is missing, before the race
    if given.short:
        given.trials, given.epochs, given.batch_size = 2, 1, 1024
    # all noises at one clip first, so that any number of trials is a grid or nearly one
    trials = [(noise, clip) for clip, noise in itertools.product(CLIPS, NOISES)][: given.trials]
    shared = ["--epochs", str(given.epochs), "--batch-size", str(given.batch_size)]
    shared += ["--data-root", str(root), "--learning-rate", LEARNING_RATE]
    engines.prepare()
    threads = [*shared, "--threads", "1"]
    ways = {
        "one after another": [_tutorial(trials, shared)],
        "two at a time": [_tutorial(trials[part::2], threads) for part in range(2)],
    }
    results = []
    before = _sweeps(trials, shared)
    for way, programs in ways.items():
        seconds = _wall(programs)
        after = _sweeps(trials, shared)
        results += [
            Result(
                engine=engine,
                tutorial=way,
                tutorial_seconds=seconds,
                before_seconds=before[engine],
                after_seconds=after[engine],
            )
            for engine in ENGINES
        ]
        before = after
    results.sort(key=lambda each: ENGINES.index(each.engine))
    if given.json:
        rows = [
            asdict(each)
            | {name: getattr(each, name) for name in ("sweep_seconds", "times_as_fast", "wanted")}
            for each in results
        ]
        asked = {"trials": len(trials), "epochs": given.epochs, "batch_size": given.batch_size}
        print(strings.json_text(**asked, machine=environment.machine(), rows=rows))
    else:
        print(text(results, len(trials), given.epochs))
    slow = any(each.times_as_fast < each.wanted for each in results)
    return cli.EXIT_REGRESSION if slow and not given.short else 0


def text(results: Sequence[Result], trials: int, epochs: int) -> str:
    """What is printed of a race."""
    header = ("sweep's engine", "tutorial's loop", "its s", "sweep's s", "times as fast", "wanted")
    cells = [
        (
            each.engine,
            each.tutorial,
            f"{each.tutorial_seconds:.1f}",
            f"{each.sweep_seconds:.1f}",
            f"{each.times_as_fast:.2f}",
            f"{each.wanted:g}" if each.wanted else "-",
        )
        for each in results
    ]
    title = f"{trials} trials of {epochs} epochs on MNIST, wall time with start-up"
    return f"{title}\n{strings.table(header, cells)}"


def _tutorial(trials: Sequence[tuple[float, float]], shared: Sequence[str]) -> list[str]:
    pairs = [f"{noise}:{clip}" for noise, clip in trials]
    return [sys.executable, str(HERE / "tutorial.py"), *pairs, *shared]


def _sweeps(trials: Sequence[tuple[float, float]], shared: Sequence[str]) -> dict[str, float]:
    """The wall time of a sweep from nothing, by engine."""
    with tempfile.TemporaryDirectory() as folder:
        return {engine: _wall([_sweep(trials, engine, Path(folder), shared)]) for engine in ENGINES}


def _sweep(
    trials: Sequence[tuple[float, float]], engine: str, folder: Path, shared: Sequence[str]
) -> list[str]:
    """A sweep of just these trials: a [[grid]] table for each clipping norm."""
    file = folder / f"{engine}.toml"
    tables = [
        f"[[grid]]\nmax_grad_norm = {clip}\n"
        f"noise_multiplier = {[noise for noise, other in trials if other == clip]}\n"
        for clip in dict.fromkeys(clip for _, clip in trials)
    ]
    file.write_text("".join(tables), encoding="utf-8")
    fixed = ["--dataset", "mnist", "--engine", engine, "--no-baseline", "--no-timing"]
    out = ["--out", str(folder / engine), "--device", "cpu"]
    return [sys.executable, "-m", "dpbench.sweep", str(file), *fixed, *out, *shared]


def _wall(commands: Sequence[Sequence[str]]) -> float:
    """Seconds until all have ended, side by side.

    Raises:
        subprocess.CalledProcessError: One has failed.
    """
    start = time.perf_counter()
    running = [
        subprocess.Popen(each, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        for each in commands
    ]
    for process in running:
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, process.args)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
