"""python bench/reference.py: the tables of a reference store's README, from its rows.

For each model the best setting within each epsilon, chosen by validation accuracy and reported on
the seeds that confirm it; what was asked of the store and what it reaches; the sentences of its
page; and its columns. `--write` puts each into the store's README between the comments that name
it, `<!-- best -->` and `<!-- end of best -->`, and so on; and of results/mnist the best settings at
some epsilons into the README at the top.
"""

import argparse
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import readme
from dpbench import cli, store
from dpbench.analysis import choice, comparability, scores, trial_rows
from dpbench.analysis.answers import Accuracy
from dpbench.errors import BadInput
from dpbench.observations import Environment, Epoch
from dpbench.privacy import accounting
from dpbench.reporting import findings, quantities, text
from dpbench.store import history
from dpbench.trial import Trial

TOP = Path(__file__).parent.parent
STORE = TOP / "results" / "mnist"
EPSILONS = (0.5, 1.0, 2.0, 3.0, 8.0)
SHOWN_AT_THE_TOP = (1.0, 3.0, 8.0)
# Of results/mnist, as means on the test set: the accuracy in per cent at least, within an epsilon
ASKED: Mapping[tuple[str, float], float] = {
    ("tutorial-cnn", 1.0): 96.6,
    ("tutorial-cnn", 3.0): 97.5,
    ("tutorial-cnn", 8.0): 98.0,
    ("tanh-cnn", 3.0): 97.8,
    ("scatter-linear", 3.0): 98.4,
}
_WHAT = {"asked": Trial, "seen": Epoch, "where and when": Environment}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A setting that was chosen, and what it reaches.

    Attributes:
        arm: Row of `arm_means.over_seeds`.
        accuracy: On the test set.
        confirmed: Whether it is of seeds that had no part in the choice.
    """

    arm: "pd.Series[Any]"
    accuracy: Accuracy
    confirmed: bool

    def __str__(self) -> str:
        shown = quantities.accuracy(self.accuracy)
        return shown if self.confirmed else f"{shown}, of the seeds that chose"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a store says of one model.

    Attributes:
        model: Its name.
        settings: Private ones that were tried; for fewer epochs, by early stopping, it is the same.
        trials: Private ones that were run to choose, and to confirm.
        within: The best setting within each of EPSILONS; None where no epoch has spent so little.
        baseline: The best result without privacy; None without any.
    """

    model: str
    settings: int
    trials: int
    within: Mapping[float, Shown | None]
    baseline: Shown | None


def reached(root: Path) -> list[Reached]:
    """What the store says of each of its models, those that were asked for first.

    Raises:
        BadInput: It holds no private trial.
    """
    trials = scores.scored(accounting.by_one_accountant(store.read_trials(root)))
    trials = trials[trials["sampling"] == "poisson"]
    confirms = trials["trial_id"].isin(history.confirmations(history.read(root)))
    grid = comparability.comparable(trials[~confirms])
    there = set(grid[grid["noise_multiplier"] > 0]["model"])
    if not there:
        raise BadInput(f"{root} holds no private trial: run its sweeps first.")
    order = dict.fromkeys([*(model for model, _ in ASKED), *sorted(there)])
    return [_of_model(model, grid, trials[confirms]) for model in order if model in there]


def _of_model(model: str, grid: pd.DataFrame, confirming: pd.DataFrame) -> Reached:
    rows, again = (each[each["model"] == model] for each in (grid, confirming))
    tried = rows[rows["noise_multiplier"] > 0]
    chosen = {epsilon: choice.within(tried, epsilon, "poisson") for epsilon in EPSILONS}
    return Reached(
        model=model,
        settings=len(tried.drop_duplicates([name for name in trial_rows.ARM if name != "epochs"])),
        trials=pd.concat([tried, trial_rows.private(again)])["trial_id"].nunique(),
        within={epsilon: _shown(each, again) for epsilon, each in chosen.items()},
        baseline=_shown(choice.baseline(rows), again),
    )


def _shown(chosen: choice.Chosen | None, confirming: pd.DataFrame) -> Shown | None:
    if chosen is None:
        return None
    _, shown, fresh = choice.confirmed(confirming, chosen)
    accuracy = Accuracy(
        mean=float(shown["test_accuracy"]),
        low=float(shown["low"]),
        high=float(shown["high"]),
        seeds=int(shown["seeds"]),
        least=float(shown["least"]),
        most=float(shown["most"]),
    )
    return Shown(arm=chosen.arm, accuracy=accuracy, confirmed=bool(fresh))


def asked(found: Sequence[Reached]) -> str:
    """What was asked and what is reached, in Markdown."""
    of_model = {each.model: each.within for each in found}
    rows = []
    for (model, epsilon), least in ASKED.items():
        shown = of_model.get(model, {}).get(epsilon)
        if shown is None:
            rows.append((model, f"{epsilon:g}", f"{least:.1f}", "not trained", "-"))
            continue
        mean = 100 * shown.accuracy.mean
        met = "yes" if mean >= least else f"no, {least - mean:.2f} points below"
        rows.append((model, f"{epsilon:g}", f"{least:.1f}", str(shown), met))
    return readme.table(("model", "epsilon", "asked (%)", "reached", "met"), rows)


_HEAD = (
    *("epsilon at most", "test accuracy", "epsilon", "noise", "clip", "batch", "rate", "momentum"),
    "epochs",
)


def best(found: Sequence[Reached]) -> str:
    """Of each model the best setting within each epsilon, in Markdown, and how many were tried."""
    parts = []
    for each in found:
        against = ""
        if each.baseline is not None:
            rate = each.baseline.arm["learning_rate"]
            against = f"; not private {each.baseline} at rate {rate:g}"
        parts += [
            f"**{each.model}**: {each.settings:,} private settings tried in {each.trials:,} "
            f"trials{against}.",
            readme.table(_HEAD, [_row(*pair) for pair in each.within.items()]),
        ]
    return "\n\n".join(parts)


def top(found: Sequence[Reached]) -> str:
    """The accuracies alone, a column a model, in Markdown: the table of the README at the top."""
    rows = [
        (f"{epsilon:g}", *(str(each.within[epsilon] or "-") for each in found))
        for epsilon in SHOWN_AT_THE_TOP
    ]
    rows.append(("not private", *(str(each.baseline or "-") for each in found)))
    return readme.table(("epsilon at most", *(each.model for each in found)), rows)


def _row(epsilon: float, shown: Shown | None) -> Sequence[str]:
    if shown is None:
        return (f"{epsilon:g}", "no epoch has spent so little", *"-------")
    arm = shown.arm
    clip = f"{arm['max_grad_norm']:.4g}" + _unless(arm["clipping"], "flat")
    rate = f"{arm['learning_rate']:.4g}" + _unless(arm["optimizer"], "sgd")
    return (
        *(f"{epsilon:g}", str(shown), f"{arm['epsilon']:.3f}", f"{arm['noise_multiplier']:.4g}"),
        *(clip, f"{arm['batch_size']:,}", rate, f"{arm['momentum']:g}", str(arm["epoch"])),
    )


def _unless(name: str, usual: str) -> str:
    return "" if name == usual else f" {name}"


def sentences(root: Path) -> str:
    """The best result without privacy and the answers of the store's page, a sentence each."""
    trials = scores.scored(accounting.by_one_accountant(store.read_trials(root)))
    sweeps = history.read(root)
    tuning, _ = findings.tuning(root, trials, sweeps)
    read = findings.Store(trials=trials, timings=store.read_timings(root), tuning=tuning)
    told = findings.findings(read, trials, sweeps)
    said = [text.baseline(told.baseline)]
    said += [text.sentence(answer, told.baseline) for answer in told.answers]
    wrap = textwrap.TextWrapper(100, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(wrap.fill(f"- {each}") for each in said)


def columns() -> str:
    """The columns of `trials/`, in Markdown, by the classes that the schema is read off."""
    rows = [
        ("`schema_version`", "int64", "of the columns"),
        ("`trial_id`", "string", "sixteen hex digits, a hash of what was asked"),
    ]
    for part, kind in _WHAT.items():
        meanings = dict(_attributes(kind))
        for field in dataclasses.fields(kind):
            meaning = meanings[field.name]
            rows.append(
                (f"`{field.name}`", str(store.TRIALS.field(field.name).type), f"{part}: {meaning}")
            )
    return readme.table(("column", "type", "meaning"), rows)


def _attributes(kind: type) -> Iterator[tuple[str, str]]:
    """The names and meanings of the class's docstring."""
    _, _, listed = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    listed, _, _ = listed.partition("\n\n")
    for entry in re.split(r"\n(?=    \w)", listed.rstrip()):
        name, _, meaning = entry.strip().partition(": ")
        yield name, " ".join(meaning.split()).replace("|", "\\|")


def tables(root: Path) -> dict[str, str]:
    """What the README holds, by the name of the comments around it, but the page's sentences."""
    found = reached(root)
    return {"asked": asked(found), "best": best(found), "columns": columns()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables or writes them into the README; returns the exit code."""
    parser = cli.Parser("python bench/reference.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument(
        "store",
        nargs="?",
        type=Path,
        default=STORE,
        help="a results folder (results/mnist)",
    )
    parser.add_argument("--write", action="store_true", help="put the tables into its README")
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    made = tables(given.store) | {"answers": sentences(given.store)}
    if given.write:
        readme.write(given.store / "README.md", made)
        if given.store.resolve() == STORE:
            readme.write(TOP / "README.md", {"reference": top(reached(given.store))})
    else:
        print("\n\n".join(made.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
