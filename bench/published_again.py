"""python bench/published_again.py: published results, and the same settings in results/published.

Prints the table of results/published/README.md: what dpbench/reporting/published.toml lists beside
what the store reaches at the same model, noise, clipping norm, sample rate, learning rate and
steps. `--write` puts it into the README.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench import readme
from dpbench import cli, store
from dpbench.analysis import comparability, trial_rows
from dpbench.privacy import accounting
from dpbench.reporting import published
from dpbench.reporting.published import Published

RESULTS = Path(__file__).parent.parent / "results" / "published"
_STEPS = 0.02  # by so much of its steps a trial of the same setting may be shorter or longer
_SETTING = (
    *("model", "noise_multiplier", "max_grad_norm", "batch_size", "learning_rate", "momentum"),
)


def ours(result: Published, finals: pd.DataFrame) -> pd.DataFrame:
    """The last epochs of the trials at the result's setting, one row a seed; maybe none.

    Of several engines, that of the most seeds.

    Args:
        result: Its model, noise, clipping norm, sample rate, learning rate and steps count.
        finals: Rows of `trial_rows.final`.
    """
    setting = {name: getattr(result, name) for name in _SETTING}
    rows = trial_rows.where(finals[finals["sampling"] == "poisson"], setting)
    rows = rows[(rows["steps"] - result.steps).abs() <= _STEPS * result.steps]
    return comparability.of_most(rows, "engine")


def welch(result: Published, accuracy: "pd.Series[float]") -> str:
    """Welch's statistic of our mean against the published one; `-` where its spread is not known.

    Args:
        result: With the deviation and the number of its runs.
        accuracy: Ours in per cent, a seed each.
    """
    if result.deviation is None or result.runs is None:
        return "-"
    error = (result.deviation**2 / result.runs + accuracy.var() / len(accuracy)) ** 0.5
    return f"{(accuracy.mean() - result.accuracy) / error:+.1f}"


def table(finals: pd.DataFrame) -> str:
    """Each published result and ours, in Markdown; epsilons as stated and by today's accountant."""
    head = ("result", "published (%)", "ours (%)", "difference", "t", "z", "stated epsilon", "PLD")
    rows = [_row(each, 100 * ours(each, finals)["test_accuracy"]) for each in published.results()]
    return readme.table(head, rows)


def _row(result: Published, accuracy: "pd.Series[float]") -> Sequence[str]:
    theirs = f"{result.accuracy:.2f}" if result.deviation else f"{result.accuracy:.1f}"
    theirs += f" ± {result.deviation:.2f}" if result.deviation else ""
    epsilons = ("-", "-")
    if result.stated_epsilon is not None:
        epsilons = (f"{result.stated_epsilon:g}", f"{result.epsilon:.3f}")
    if accuracy.empty:
        return (result.name, theirs, *"----", *epsilons)
    difference = accuracy.mean() - result.accuracy
    alone = len(accuracy) < 2  # one seed has no deviation
    return (
        *(result.name, theirs, f"{accuracy.mean():.2f} ± {accuracy.std():.2f}"),
        *(f"{difference:+.2f}", welch(result, accuracy)),
        "-" if alone else f"{difference / accuracy.std():+.1f}",
        *epsilons,
    )


def settings(finals: pd.DataFrame) -> str:
    """The settings, and in what ours differ, in Markdown."""
    head = ("result", "model", "noise", "clip", "batch", "rate", "momentum", "steps", "seeds")
    rows = []
    for each in published.results():
        found = ours(each, finals)
        counts = found["steps"].unique()
        steps = str(each.steps)
        if len(counts) and set(counts) != {each.steps}:
            steps += f" (ours {', '.join(str(int(count)) for count in counts)})"
        private = each.noise_multiplier is not None
        rows.append(
            (
                *(each.name, each.model),
                *((f"{each.noise_multiplier:g}", f"{each.max_grad_norm:g}") if private else "--"),
                *(str(each.batch_size), f"{each.learning_rate:g}", f"{each.momentum:g}", steps),
                *(str(len(found)), each.differs),
            )
        )
    return readme.table((*head, "theirs has"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables or writes them into the README; returns the exit code."""
    parser = cli.Parser("python bench/published_again.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument(
        "store", nargs="?", type=Path, default=RESULTS, help="a results folder (results/published)"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into its README")
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    finals = accounting.by_one_accountant(trial_rows.final(store.read_trials(given.store)))
    made = {"published": table(finals), "settings": settings(finals)}
    if given.write:
        readme.write(given.store / "README.md", made)
    else:
        print("\n\n".join(made.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
