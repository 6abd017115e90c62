"""python bench/peers/stacks.py: the default MNIST grid on a GPU, stacked, against one by one.

`python -m dpbench.sweep` trains trials of one batch size at once, as one batched model: its wall
time from nothing, twice. What its private trials would take one by one, by the sweep's loop with
Opacus' hooks and by the tutorial's program, follows from one trial of each batch size, since noise
and clipping norm change no step's time; their imports are left out. Needs a CUDA device.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import cli, store, strings
from dpbench.analysis import trial_rows
from dpbench.datasets import loading, resolution
from dpbench.errors import BadInput
from dpbench.execution import grid, grid_trials
from dpbench.measurement import devices, environment

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = Path(__file__).parent / "tutorial.py"
HOOKS, TUTORIAL = "Opacus' hooks in the sweep's loop", "the tutorial's program"
WANTED = 20.0  # times as fast as the tutorial's program


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The grid by a sweep.

    Attributes:
        trials: So many.
        epochs: Of each.
        wall_seconds: From the command to its page.
        train_seconds: Of it, in training steps.
        best_accuracy: Of its private trials, on the test set.
    """

    trials: int
    epochs: int
    wall_seconds: float
    train_seconds: float
    best_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """One private trial.

    Attributes:
        by: Which program.
        batch_size: Of the trial.
        epochs: So many.
        seconds: Of them: in training steps alone by the sweep's loop; by the tutorial's program
            from its imports to its test accuracy.
        grid_trials: Private trials of this batch size in the grid.
        grid_epochs: Of each of them.
    """

    by: str
    batch_size: int
    epochs: int
    seconds: float
    grid_trials: int
    grid_epochs: int

    @property
    def grid_seconds(self) -> float:
        """What the grid's private trials of this batch size would take."""
        return self.seconds / self.epochs * self.grid_epochs * self.grid_trials


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.Parser("python bench/peers/stacks.py", __doc__, "0 all well; 3 too slow")
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="of the grid's trials")
    parser.add_argument(
        "--tutorial-epochs", type=int, default=2, metavar="N", help="of its trials (default: 2)"
    )
    parser.add_argument("--device", default="cuda", metavar="NAME", help="cuda or cuda:N")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="as the sweep's")
    parser.add_argument(
        "--short", action="store_true", help="an epoch of each: whether it runs, not how fast"
    )
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return cli.run(parser, arguments, _race)


def _race(given: argparse.Namespace) -> int:
    (device,) = devices.resolve([given.device])
    if device == "cpu":
        raise BadInput(f"Expected device={given.device} to be a CUDA device.")
    if given.short:
        given.epochs = given.tutorial_epochs = 1
    root = resolution.data_root(given.data_root)
    loading.load("mnist", root, "cpu")  # says what is missing, before the race
    asked = ["--data-root", str(root), "--device", device]
    counts = Counter(
        trial.batch_size
        for trial in grid_trials.trials([grid.grid(grid.defaults("mnist"))], "mnist")
        if trial.private
    )
    stacked = [sweep(asked, given.epochs) for _ in range(2)]
    alone = [
        Alone(
            by=name,
            batch_size=batch_size,
            epochs=epochs,
            seconds=run(asked, batch_size, epochs),
            grid_trials=count,
            grid_epochs=given.epochs,
        )
        for name, run, epochs in (
            (HOOKS, hooks, given.epochs),
            (TUTORIAL, tutorial, given.tutorial_epochs),
        )
        for batch_size, count in sorted(counts.items())
    ]
    machine = environment.machine(device)
    if given.json:
        rows = [asdict(each) | {"grid_seconds": each.grid_seconds} for each in alone]
        swept = [asdict(each) for each in stacked]
        times = times_as_fast(stacked, alone)
        print(
            strings.json_text(
                machine=machine, stacked=swept, alone=rows, times_as_fast=times, wanted=WANTED
            )
        )
    else:
        print(text(stacked, alone))
    fast = times_as_fast(stacked, alone)[TUTORIAL] >= WANTED
    return 0 if fast or given.short else cli.EXIT_REGRESSION


def times_as_fast(stacked: Sequence[Swept], alone: Sequence[Alone]) -> dict[str, float]:
    """How much longer each way takes one by one than the sweep, from nothing to its page."""
    ours = statistics.mean(each.wall_seconds for each in stacked)
    return {
        name: sum(each.grid_seconds for each in alone if each.by == name) / ours
        for name in (HOOKS, TUTORIAL)
    }


def text(stacked: Sequence[Swept], alone: Sequence[Alone]) -> str:
    """What is printed."""
    walls, trains = (
        " and ".join(f"{getattr(each, name):.1f}" for each in stacked)
        for name in ("wall_seconds", "train_seconds")
    )
    lines = [
        f"{stacked[0].trials} trials of {stacked[0].epochs} epochs on MNIST, stacked: {walls} s "
        f"from nothing, {trains} s of it in training steps"
    ]
    for name, times in times_as_fast(stacked, alone).items():
        seconds = sum(each.grid_seconds for each in alone if each.by == name)
        lines.append(f"one by one, by {name}: {seconds:.0f} s, {times:.1f} times as long")
    return "\n".join(lines)


def sweep(asked: Sequence[str], epochs: int) -> Swept:
    """The default sweep with these flags, from nothing."""
    start = time.perf_counter()
    trials = _swept([*asked, "--epochs", str(epochs)])
    wall = time.perf_counter() - start
    assert set(trials["implementation"]) == {"stacked"}
    together = trials.drop_duplicates(["batch_size", "train_seconds"])  # a stack's is its trials'
    return Swept(
        trials=len(trials),
        epochs=epochs,
        wall_seconds=wall,
        train_seconds=float(together["train_seconds"].sum()),
        best_accuracy=float(trial_rows.private(trials)["test_accuracy"].max()),
    )


def hooks(asked: Sequence[str], batch_size: int, epochs: int) -> float:
    """Seconds in training steps of a trial by Opacus' hooks, in the sweep's loop."""
    one = ["--noise-multiplier", "1", "--max-grad-norm", "1", "--no-baseline", "--engine"]
    one += ["opacus-hooks", "--batch-size", str(batch_size), "--epochs", str(epochs)]
    return float(_swept([*asked, *one])["train_seconds"].item())


def tutorial(asked: Sequence[str], batch_size: int, epochs: int) -> float:
    """Seconds of a trial by the tutorial's program."""
    one = ["1:1", "--batch-size", str(batch_size), "--epochs", str(epochs), *asked]
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(PROGRAM), *one], check=True, capture_output=True, text=True
    )
    found = re.search(r", ([\d.]+) s$", done.stdout.strip())
    assert found is not None, done.stdout
    return float(found[1])


def _swept(asked: Sequence[str]) -> "pd.DataFrame":
    """The last rows of the trials of a sweep."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["--dataset", "mnist", "--no-timing", "--quiet", "--out", folder]
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", "dpbench.sweep", *fixed, *asked], check=True
        )
        return trial_rows.final(store.read_trials(Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
