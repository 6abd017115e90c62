"""python bench/opacus_table.py: Opacus' published MNIST table beside results/opacus-table.

Prints the table of results/opacus-table/README.md and draws its figure.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from dpbench import analysis, store

RESULTS = Path(__file__).parent.parent / "results" / "opacus-table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A row of the table in Opacus' examples/mnist_README.md: 10 runs, batch size 240, plain SGD.

    Attributes:
        name: As here and in results/opacus-table/sweep.toml.
        noise_multiplier: None for the baseline.
        epochs: Of each run.
        accuracy: Mean test accuracy over the runs, in per cent.
        deviation: Standard deviation over the runs, in points.
        epsilon: As published, by an older and looser conversion; None for the baseline.
    """

    name: str
    noise_multiplier: float | None
    epochs: int
    accuracy: float
    deviation: float
    epsilon: float | None


PUBLISHED_RUNS = 10
PUBLISHED = (
    Run(
        name="baseline",
        noise_multiplier=None,
        epochs=20,
        accuracy=98.94,
        deviation=0.32,
        epsilon=None,
    ),
    Run(name="A", noise_multiplier=0.7, epochs=45, accuracy=97.09, deviation=0.17, epsilon=6.86),
    Run(name="B", noise_multiplier=1.1, epochs=60, accuracy=96.78, deviation=0.21, epsilon=2.91),
    Run(name="C", noise_multiplier=1.3, epochs=15, accuracy=94.63, deviation=0.34, epsilon=1.16),
)


def ours(run: Run, finals: pd.DataFrame) -> pd.DataFrame:
    """The last epochs of the run's trials by the default engine, one row a seed."""
    if run.noise_multiplier is None:
        return analysis.non_private(finals)
    return finals[
        (finals["noise_multiplier"] == run.noise_multiplier)
        & (finals["engine"] == "fused")
        & (finals["sampling"] == "poisson")
    ]


def table(finals: pd.DataFrame) -> str:
    """The published accuracies and ours, in Markdown; epsilons as published and by today's PRV.

    The last column is Welch's t statistic of the difference between the two means.
    """
    lines = [
        "| run | published accuracy (%) | ours (%) | seeds | difference | t | published epsilon "
        "| PRV | RDP |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in PUBLISHED:
        rows = ours(run, finals)
        accuracy = 100 * rows["test_accuracy"]
        error = (run.deviation**2 / PUBLISHED_RUNS + accuracy.var() / len(rows)) ** 0.5
        difference = accuracy.mean() - run.accuracy
        epsilons = ["-"] * 3
        if run.epsilon is not None:
            epsilons = [
                f"{run.epsilon:.2f}",
                f"{rows['epsilon_prv'].iloc[0]:.3f}",
                f"{rows['epsilon_rdp'].iloc[0]:.3f}",
            ]
        lines.append(
            f"| {run.name} | {run.accuracy:.2f} ± {run.deviation:.2f} | {accuracy.mean():.2f} ± "
            f"{accuracy.std():.2f} | {len(rows)} | {difference:+.2f} | {difference / error:+.1f} | "
            + " | ".join(epsilons)
            + " |"
        )
    return "\n".join(lines)


def figure(finals: pd.DataFrame) -> Figure:
    """Published means and deviations beside ours, our seeds as dots; a panel for each run."""
    colours = sns.color_palette("colorblind")
    with sns.axes_style("whitegrid"):
        drawn = Figure(figsize=(9, 3.4), layout="constrained", dpi=150)
        for panel, run in zip(drawn.subplots(1, len(PUBLISHED)), PUBLISHED, strict=True):
            accuracy = 100 * ours(run, finals)["test_accuracy"]
            panel.errorbar(
                [0], [run.accuracy], yerr=[run.deviation], fmt="o", capsize=5, color=colours[0]
            )
            panel.errorbar(
                [1],
                [accuracy.mean()],
                yerr=[accuracy.std()],
                fmt="s",
                capsize=5,
                color=colours[1],
            )
            panel.scatter([1.2] * len(accuracy), accuracy, s=8, color=colours[1], alpha=0.6)
            panel.set_xticks([0, 1], ["published", "dpbench"])
            panel.set_xlim(-0.5, 1.5)
            noise = "non-private" if run.epsilon is None else f"noise {run.noise_multiplier:g}"
            panel.set_title(f"{run.name}: {noise}, {run.epochs} epochs", fontsize=9)
        drawn.axes[0].set_ylabel("test accuracy on MNIST (%)\nmean ± standard deviation")
    return drawn


def main() -> int:
    """Prints the table and draws the figure; returns the exit code."""
    finals = analysis.final(store.read_trials(RESULTS))
    print(table(finals))
    figure(finals).savefig(RESULTS / "published.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
