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


def ours(run: Run, trials: pd.DataFrame) -> pd.DataFrame:
    """All epochs of the run's trials by the default engine."""
    if run.noise_multiplier is None:
        return analysis.non_private(trials)
    return trials[
        (trials["noise_multiplier"] == run.noise_multiplier)
        & (trials["engine"] == "fused")
        & (trials["sampling"] == "poisson")
    ]


def accuracies(run: Run, trials: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Each seed's test accuracy in per cent, after the last epoch and at its best one."""
    of_run = ours(run, trials)
    last = of_run[of_run["epoch"] == of_run["epochs"]].set_index("seed")["test_accuracy"]
    return 100 * last, 100 * of_run.groupby("seed")["test_accuracy"].max()


def table(trials: pd.DataFrame) -> str:
    """The published accuracies and ours, in Markdown; epsilons as published and by today's PRV.

    Each t is Welch's statistic of the difference of our mean from the published one.
    """
    lines = [
        "| run | published (%) | last epoch (%) | t | best epoch (%) | t | seeds "
        "| published epsilon | PRV | RDP |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in PUBLISHED:
        cells = [run.name, f"{run.accuracy:.2f} ± {run.deviation:.2f}"]
        last, best = accuracies(run, trials)
        for accuracy in (last, best):
            error = (run.deviation**2 / PUBLISHED_RUNS + accuracy.var() / len(accuracy)) ** 0.5
            cells.append(f"{accuracy.mean():.2f} ± {accuracy.std():.2f}")
            cells.append(f"{(accuracy.mean() - run.accuracy) / error:+.1f}")
        cells.append(str(len(last)))
        if run.epsilon is None:
            cells += ["-"] * 3
        else:
            spent = analysis.final(ours(run, trials)).iloc[0]
            cells.append(f"{run.epsilon:.2f}")
            cells += [f"{spent[name]:.3f}" for name in ("epsilon_prv", "epsilon_rdp")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(trials: pd.DataFrame) -> Figure:
    """Published means and deviations beside ours, our seeds as dots; a panel for each run."""
    colours = sns.color_palette("colorblind")
    with sns.axes_style("whitegrid"):
        drawn = Figure(figsize=(9, 3.4), layout="constrained", dpi=150)
        for panel, run in zip(drawn.subplots(1, len(PUBLISHED)), PUBLISHED, strict=True):
            panel.errorbar(
                [0], [run.accuracy], yerr=[run.deviation], fmt="o", capsize=5, color=colours[0]
            )
            for at, accuracy in enumerate(accuracies(run, trials), start=1):
                panel.errorbar(
                    [at],
                    [accuracy.mean()],
                    yerr=[accuracy.std()],
                    fmt="s" if at == 1 else "^",
                    capsize=5,
                    color=colours[at],
                )
                panel.scatter(
                    [at + 0.25] * len(accuracy), accuracy, s=8, color=colours[at], alpha=0.6
                )
            panel.set_xticks([0, 1, 2], ["published", "last\nepoch", "best\nepoch"], fontsize=8)
            panel.set_xlim(-0.5, 2.6)
            noise = "non-private" if run.epsilon is None else f"noise {run.noise_multiplier:g}"
            panel.set_title(f"{run.name}: {noise}, {run.epochs} epochs", fontsize=9)
        drawn.axes[0].set_ylabel("test accuracy on MNIST (%)\nmean ± standard deviation")
    return drawn


def main() -> int:
    """Prints the table and draws the figure; returns the exit code."""
    trials = store.read_trials(RESULTS)
    print(table(trials))
    figure(trials).savefig(RESULTS / "published.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
