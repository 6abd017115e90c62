"""python bench/peers/stacks.py: the default MNIST grid on a GPU, stacked, against one by one.

Wall times from nothing: of `python -m dpbench.sweep` as it is, which trains trials of one batch
size at once as one batched model, and of the same sweep by Opacus' hooks, trial after trial. Beside
them, the tutorial's program on the GPU: a trial of each batch size, for fewer epochs, from which
its time for the grid follows, since noise and clipping norm change no step's time. Needs a CUDA
device.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dpbench import analysis, command, data, environment, grid, store
from dpbench.trial import BadInput

TUTORIAL = Path(__file__).parent / "tutorial.py"
WANTED = 20.0  # times as fast as one by one through Opacus
OPACUS = "opacus-hooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A sweep of the grid.

    Attributes:
        engine: By which its private trials were trained.
        trials: So many.
        wall_seconds: From the command to its page.
        train_seconds: Of it, in training steps: of a stack once, not for each of its trials.
        best_accuracy: Of its private trials, on the test set.
    """

    engine: str
    trials: int
    wall_seconds: float
    train_seconds: float
    best_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Looped:
    """The tutorial's program on one trial, start-up left out.

    Attributes:
        batch_size: Of the loader.
        epochs: So many.
        seconds: Of them, with the accountant and the test set.
        grid_trials: Private trials of this batch size in the grid.
        grid_epochs: Of each of them.
    """

    batch_size: int
    epochs: int
    seconds: float
    grid_trials: int
    grid_epochs: int

    @property
    def grid_seconds(self) -> float:
        """What the grid's trials of this batch size would take."""
        return self.seconds / self.epochs * self.grid_epochs * self.grid_trials


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.Parser("python bench/peers/stacks.py", __doc__, "0 all well; 3 too slow")
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="of the grid's trials")
    parser.add_argument(
        "--loop-epochs", type=int, default=2, metavar="N", help="of the tutorial's (default: 2)"
    )
    parser.add_argument("--device", default="cuda", metavar="NAME", help="cuda or cuda:N")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="as the sweep's")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return command.run(parser, arguments, _race)


def _race(given: argparse.Namespace) -> int:
    (device,) = command.devices([given.device])
    if device == "cpu":
        raise BadInput(f"Expected device={given.device} to be a CUDA device.")
    root = command.data_root(given.data_root)
    data.load("mnist", root, "cpu")  # says what is missing, before the race
    shared = ["--data-root", str(root), "--device", device]
    epochs = ["--epochs", str(given.epochs)]
    stacked = sweep([*shared, *epochs])
    alone = sweep([*shared, *epochs, "--engine", OPACUS, "--stack", "1", "--jobs", "1"])
    again = sweep([*shared, *epochs])
    asked = grid.trials([grid.grid(grid.defaults("mnist"))], "mnist")
    looped = [
        loop(
            batch_size,
            given.loop_epochs,
            shared,
            [t.batch_size for t in asked if t.private],
            given.epochs,
        )
        for batch_size in sorted({trial.batch_size for trial in asked})
    ]
    ours = (stacked.wall_seconds + again.wall_seconds) / 2
    theirs = {
        f"the sweep by {OPACUS}, one by one": alone.wall_seconds,
        "the tutorial's program, one by one": sum(each.grid_seconds for each in looped),
    }
    times = {name: seconds / ours for name, seconds in theirs.items()}
    if given.json:
        machine = environment.machine() | {"device_name": environment.device_name(device)}
        print(
            command.one_object(
                machine=machine,
                sweeps=[asdict(each) for each in (stacked, alone, again)],
                loops=[asdict(each) | {"grid_seconds": each.grid_seconds} for each in looped],
                times_as_fast=times,
                wanted=WANTED,
            )
        )
    else:
        print(f"{stacked.trials} trials of {given.epochs} epochs on MNIST, stacked: {ours:.1f} s")
        for name, seconds in theirs.items():
            print(f"{name}: {seconds:.1f} s, {times[name]:.1f} times as long")
    return 0 if max(times.values()) >= WANTED else command.EXIT_REGRESSION


def sweep(asked: Sequence[str]) -> Swept:
    """Runs the default sweep with these flags, from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["--dataset", "mnist", "--no-timing", "--quiet", "--out", folder]
        start = time.perf_counter()
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", "dpbench.sweep", *fixed, *asked], check=True
        )
        wall = time.perf_counter() - start
        trials = analysis.final(store.read_trials(Path(folder)))
    private = analysis.private(trials)
    own = ["batch_size", "train_seconds"]  # trials of a stack have its time in common
    stacked = set(trials["implementation"]) == {"stacked"}
    return Swept(
        engine=str(private["engine"].iloc[0]),
        trials=len(trials),
        wall_seconds=wall,
        train_seconds=float(
            (trials.drop_duplicates(own) if stacked else trials)["train_seconds"].sum()
        ),
        best_accuracy=float(private["test_accuracy"].max()),
    )


def loop(
    batch_size: int,
    epochs: int,
    shared: Sequence[str],
    grid_batch_sizes: Sequence[int],
    grid_epochs: int,
) -> Looped:
    """Runs the tutorial's program on one trial."""
    asked = ["1.0:1.0", "--batch-size", str(batch_size), "--epochs", str(epochs), *shared]
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(TUTORIAL), *asked], check=True, capture_output=True, text=True
    )
    found = re.search(r", ([\d.]+) s$", done.stdout.strip())
    assert found is not None, done.stdout
    return Looped(
        batch_size=batch_size,
        epochs=epochs,
        seconds=float(found[1]),
        grid_trials=sum(each == batch_size for each in grid_batch_sizes),
        grid_epochs=grid_epochs,
    )


if __name__ == "__main__":
    sys.exit(main())
