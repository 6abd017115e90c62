"""The flags of `dpbench sweep` that say what is asked: axes, a search and the answer."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from dpbench import cli, completion, datasets
from dpbench.execution import private_request
from dpbench.execution.axes import Axis
from dpbench.execution.grid import AXES
from dpbench.privacy import run_count

COMMON: Mapping[str, Mapping[str, str]] = {  # what `--help` shows
    "axes, of one or more values: 1 2 or 1,2 or 0.5:2:0.5 or log:0.1:10:5": {
        "--noise-multiplier": "noise over clipping norm",
        "--target-epsilon": "instead: the noise is solved for",
        "--max-grad-norm": "clipping norm of an example's gradient",
        "--batch-size": "expected size of Poisson batches",
        "--learning-rate": "default: grows with the batch size",
        "--seeds": "default: 0",
        "--model": "default: the dataset's",
    },
    "every trial and the run:": {
        "--dataset": f"default: {datasets.DEFAULT}, else {datasets.stand_in(datasets.DEFAULT)}",
        "--epochs": "default, as of the axes: the dataset's",
        "--validation": "held out to choose by, as 5000 or 10%",
        "--confirm": "run the best again on N fresh seeds",
        "--out": "default: results/DATASET-sweep",
        "--jobs": "trials at a time (default: the cores)",
        "--dry-run": "print the trials, epsilons and time",
    },
}


def add_grid_flags(parser: argparse.ArgumentParser) -> None:
    """The axes of a grid, and the dataset."""
    many = parser.add_argument_group(
        "axes, as 1 2 or 1,2 or FIRST:LAST:STEP or log:FIRST:LAST:COUNT"
    )
    shared = parser.add_argument_group("every trial")
    for axis in AXES.values():
        _add_axis(many if axis.many else shared, axis)
    dataset = shared.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"of {', '.join(datasets.names())}, or a function of yours, FILE.py:load or "
        f"package.module:load (default: {datasets.AUTO}, which is {datasets.DEFAULT}, or "
        f"{datasets.stand_in(datasets.DEFAULT)} where that cannot be had)",
    )
    completion.offer(dataset, (datasets.AUTO, *datasets.names()))
    shared.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="a torchvision root (default: DPBENCH_DATA, or a folder in the user's cache)",
    )


def _add_axis(group: "argparse._ArgumentGroup", axis: Axis) -> None:
    if axis.kind is bool:
        group.add_argument(
            *axis.flags,
            dest=axis.name,
            action="store_const",
            const=not axis.default,
            help=axis.help,
        )
        return
    flag = group.add_argument(  # its text becomes values in `Axis.parsed`, as that of a sweep file
        *axis.flags,
        dest=axis.name,
        nargs="+" if axis.many else None,
        metavar={float: "X", int: "N", dict: "NAME=VALUE"}.get(axis.kind, "NAME"),
        help=axis.help,
    )
    if axis.choices:
        completion.offer(flag, axis.choices)


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """What is drawn from the axes instead of their product."""
    group = parser.add_argument_group(
        "a search, from axes with several values or a range, LOW:HIGH or log:LOW:HIGH"
    )
    group.add_argument(
        "--search",
        type=int,
        metavar="N",
        help="draw N settings, and run each at every target epsilon and seed; N more later go on "
        "from them (default: none, run all of the grid)",
    )
    method = group.add_argument(
        "--search-method",
        metavar="NAME",
        help="sobol, which draws evenly, or optuna, which asks Optuna what to try next (needs the "
        "extra `optuna`; default: sobol)",
    )
    completion.offer(method, ("sobol", "optuna"))
    group.add_argument(
        "--early-stop",
        type=int,
        nargs="?",
        const=True,
        metavar="ETA",
        help="train all for a 16th of the epochs, the best one in ETA by validation for a 4th, and "
        "of these one in ETA for all (default: train all to the end; without a number: 4)",
    )
    group.add_argument(
        "--private-selection",
        nargs="?",
        const=run_count.DEFAULT,
        metavar="KIND",
        help="draw the number of settings, too, with mean N, and report the best with the epsilon "
        f"of the whole search; KIND of {', '.join(run_count.DISTRIBUTIONS)} (default: no; KIND: "
        f"{run_count.DEFAULT}; N: {private_request.MEAN})",
    )
    group.add_argument(
        "--total-epsilon",
        type=float,
        metavar="X",
        help="instead of a noise: solve for that with which a private selection spends at most X "
        "in all (default: none)",
    )
    group.add_argument(
        "--private-scores",
        action="store_true",
        default=None,
        help="add noise to the scores of a private selection, so that its guarantee covers the "
        "held-out examples, too",
    )


def add_answer_flags(parser: argparse.ArgumentParser) -> None:
    """What the answer is: by which metric, at which epsilons, by which seeds."""
    group = parser.add_argument_group("the answer")
    cli.add_numbers(
        group,
        "--answer-at",
        metavar="E",
        help="report the best setting within each of these epsilons (default: those of "
        "--target-epsilon, else 1 3 8)",
    )
    group.add_argument(
        "--confirm",
        type=int,
        metavar="N",
        help="run the best settings again on N seeds that no other trial has, and report their "
        "accuracy by those alone (default: 0, by the seeds that chose them)",
    )
    cli.add_choose_by(group)
    group.add_argument(
        "--tuned-in",
        nargs="+",
        metavar="DIR",
        help="stores in which settings were tried on the same data before: they count in what "
        "choosing costs (default: none)",
    )
