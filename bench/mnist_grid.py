"""python bench/mnist_grid.py: results/mnist-tuning -> the sweep file of results/mnist-grid.

For each batch size and clipping norm, the learning rate that did best on the validation examples
after as many epochs as results/mnist-grid trains. (The tuning's trials go on for longer; an epoch
of theirs is what a trial that ends there would have seen.)
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dpbench import engines, store
from dpbench.analysis import trial_rows

RESULTS = Path(__file__).parent.parent / "results"
EPOCHS = 10

HEAD = f"""\
# What noise and clipping cost. Written by python bench/mnist_grid.py from results/mnist-tuning.
dataset = "mnist"
epochs = {EPOCHS}
validation_examples = 5000
seed = [0, 1, 2]
noise_multiplier = [0.6, 1.0, 1.5, 2.5, 4.0]
clip_only = true
baseline = false
confirm = 3
tuned_in = "results/mnist-tuning"
"""


def tables(tuning: pd.DataFrame) -> Iterator[str]:
    """A [[grid]] table for each batch size and clipping norm, and the baselines'.

    Args:
        tuning: Rows of `store.read_trials`.
    """
    seen = tuning[tuning["epoch"] == EPOCHS]
    for (batch_size, clip), arms in trial_rows.private(seen).groupby(
        ["batch_size", "max_grad_norm"]
    ):
        yield (
            f"[[grid]]\nbatch_size = {batch_size}\nmax_grad_norm = {clip}\n"
            f"learning_rate = {_best_rate(arms)}\n"
        )
    plain = seen[seen["engine"].isin(engines.non_private_names())]
    for batch_size, arms in plain.groupby("batch_size"):
        yield (
            f'[[grid]]\nengine = "non-private"\nbatch_size = {batch_size}\nmax_grad_norm = 1.0\n'
            f"learning_rate = {_best_rate(arms)}\n"
        )


def _best_rate(arms: pd.DataFrame) -> float:
    """Of the rates tried with the most seeds, the one with the best mean over them."""
    rates = arms.groupby("learning_rate")["validation_accuracy"].agg(["mean", "size"])
    return float(rates[rates["size"] == rates["size"].max()]["mean"].idxmax())


def main() -> int:
    """Prints the sweep file; returns the exit code."""
    print("\n".join([HEAD, *tables(store.read_trials(RESULTS / "mnist-tuning"))]), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
