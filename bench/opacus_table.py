"""python bench/opacus_table.py: Opacus' published MNIST table beside results/opacus-table.

Prints the table of results/opacus-table/README.md and draws its figure.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bench import published_again, readme
from dpbench import cli, store
from dpbench.analysis import trial_rows
from dpbench.privacy import accounting
from dpbench.reporting import published
from dpbench.reporting.published import Published

RESULTS = Path(__file__).parent.parent / "results" / "opacus-table"

# As published today; as Opacus' page of April 2020 had it, with the same accuracies; and as the
# epsilons of that page tell of, which are those of TF-Privacy's table
BATCH_SIZES = (240, 250, 256)
# tensorflow/privacy, tutorials/README.md: the same noises, clips, rates and epochs at batch size
# 256, in per cent; of how many runs, it does not say
TF_PRIVACY = {"A": 97.0, "B": 96.6, "C": 95.0}
PUBLISHED = {
    each.name.removeprefix("Opacus ").replace("Opacus, not private", "baseline"): each
    for each in published.results()
    if each.name.startswith("Opacus")
}


def ours(run: Published, batch_size: int, finals: pd.DataFrame) -> pd.DataFrame:
    """The last epochs of the run's trials at that batch size, one row a seed; maybe none."""
    steps = run.epochs * round(run.examples / batch_size)
    return published_again.ours(replace(run, batch_size=batch_size, steps=steps), finals)


def table(finals: pd.DataFrame) -> str:
    """The published accuracies and ours, in Markdown; epsilons as published and by today's.

    Each t is Welch's statistic of the difference of our mean from the published one.
    """
    sizes = [each for size in BATCH_SIZES for each in (f"batch size {size} (%)", "t")]
    rows = []
    for name, run in PUBLISHED.items():
        cells = [name, f"{run.accuracy:.2f} ± {run.deviation:.2f}"]
        for size in BATCH_SIZES:
            accuracy = 100 * ours(run, size, finals)["test_accuracy"]
            if accuracy.empty:
                cells += ["-", "-"]
                continue
            cells.append(f"{accuracy.mean():.2f} ± {accuracy.std():.2f}")
            cells.append(published_again.welch(run, accuracy))
        if run.stated_epsilon is None:
            cells += ["-"] * 3
        else:
            spent = ours(run, BATCH_SIZES[0], finals).iloc[0]
            cells.append(f"{run.stated_epsilon:.2f}")
            cells += [f"{spent[name]:.3f}" for name in ("epsilon_pld", "epsilon_rdp")]
        rows.append(cells)
    head = ("run", "published (%)", *sizes, "published epsilon", "PLD", "RDP")
    return readme.table(head, rows)


def tf_privacy_table(finals: pd.DataFrame) -> str:
    """TF-Privacy's accuracies and ours at its batch size, in Markdown.

    Each t is of our mean against the published number as it stands; each z is the published
    number's distance from our mean in deviations of a single run.
    """
    rows = []
    for name, run in PUBLISHED.items():
        accuracy = 100 * ours(run, 256, finals)["test_accuracy"]
        if name not in TF_PRIVACY or accuracy.empty:
            continue
        difference = accuracy.mean() - TF_PRIVACY[name]
        deviation = accuracy.std()
        rows.append(
            (
                *(name, f"{TF_PRIVACY[name]:.1f}", f"{accuracy.mean():.2f} ± {deviation:.2f}"),
                *(f"{difference:+.2f}", f"{difference / (deviation / len(accuracy) ** 0.5):+.1f}"),
                f"{difference / deviation:+.1f}",
            )
        )
    return readme.table(
        ("run", "TF-Privacy (%)", "batch size 256 (%)", "difference", "t", "z"), rows
    )


def figure(finals: pd.DataFrame) -> Figure:
    """Published means and deviations beside ours, our seeds as dots; a panel for each run."""
    colours = sns.color_palette("colorblind")
    with sns.axes_style("whitegrid"):
        drawn = Figure(figsize=(9, 3.4), layout="constrained", dpi=150)
        panels = drawn.subplots(1, len(PUBLISHED))
        for panel, (name, run) in zip(panels, PUBLISHED.items(), strict=True):
            panel.errorbar(
                [0], [run.accuracy], yerr=[run.deviation], fmt="o", capsize=5, color=colours[0]
            )
            for at, size in enumerate(BATCH_SIZES, start=1):
                accuracy = 100 * ours(run, size, finals)["test_accuracy"]
                if accuracy.empty:
                    continue
                style = {"fmt": "s^D"[at - 1], "color": colours[at]}
                panel.errorbar([at], [accuracy.mean()], yerr=[accuracy.std()], capsize=5, **style)
                panel.scatter(
                    [at + 0.25] * len(accuracy), accuracy, s=8, color=colours[at], alpha=0.6
                )
            ticks = ["published", *(f"batch\n{size}" for size in BATCH_SIZES)]
            panel.set_xticks(range(len(ticks)), ticks, fontsize=7)
            panel.set_xlim(-0.5, len(BATCH_SIZES) + 0.6)
            noise = (
                "non-private" if run.noise_multiplier is None else f"noise {run.noise_multiplier:g}"
            )
            panel.set_title(f"{name}: {noise}, {run.epochs} epochs", fontsize=9)
        drawn.axes[0].set_ylabel("test accuracy on MNIST (%)\nmean ± standard deviation")
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and draws the figure; returns the exit code."""
    parser = cli.Parser("python bench/opacus_table.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument(
        "--short", action="store_true", help="draw the figure for nobody: whether it runs"
    )
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    finals = accounting.by_one_accountant(trial_rows.final(store.read_trials(RESULTS)))
    print(table(finals))
    print()
    print(tf_privacy_table(finals))
    figure(finals).savefig(io.BytesIO() if given.short else RESULTS / "published.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
