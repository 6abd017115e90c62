"""Find, show and drop the arms of a store, by their settings.

An arm is the trials that share everything but the seed. The flags choose: all of them
must hold, each with one of its values. Numbers match as tables show them.
"""

import argparse
import os
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import cli, completion, console, strings
from dpbench.errors import BadInput
from dpbench.execution import grid
from dpbench.observations import FAILURES
from dpbench.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

JSON_VERSION = 1
_COMMON = {
    "what to do:": {
        "list|show|drop": "a line an arm; all that is known; remove",
        "results/NAME": "a sweep's folder",
        "--yes": "drop, and do not only show what (default: no)",
        "--all": "drop every arm (default: no)",
        "--json": "print one JSON object (default: text)",
    },
    "which arms (default: all), by one or more values:": {
        "--noise-multiplier": "noise over clipping norm",
        "--max-grad-norm": "clipping norm of an example's gradient",
        "--batch-size": "expected size of Poisson batches",
        "--learning-rate": "of the optimizer",
        "--epochs": "that were asked for",
        "--engine": "how steps are computed",
        "--seeds": "of the trials",
        "--status": "ok, failed, timeout, out-of-memory, crashed",
    },
}


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m dpbench.results") -> int:
    """Runs the command; returns its exit code."""
    return cli.run(_parser(prog), arguments, _results)


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog,
        str(__doc__).partition("\n\n")[0],
        "0 all well; 2 bad input; 4 no arm fits, or --yes is missing",
        examples=(
            "list results/mine",
            "show results/mine --noise 1 --clip 0.5,1",
            "drop results/mine --status failed --yes",
        ),
        details=str(__doc__).partition("\n\n")[2],
        common=_COMMON,
    )
    parser.add_argument(
        "action",
        choices=("list", "show", "drop"),
        metavar="list|show|drop",
        help="a line an arm; all that is known of each; or remove their trials",
    )
    parser.add_argument("store", type=Path, metavar="results/NAME", help="a sweep's folder")
    chosen = parser.add_argument_group("which arms (default: all)")
    for name, kind in _settings().items():
        axis = grid.AXES.get(name)
        flags = axis.flags if axis else (f"--{name.replace('_', '-')}",)
        text = "of the trials (default: any)"
        if kind is str:
            flag = chosen.add_argument(*flags, dest=name, nargs="+", metavar="NAME", help=text)
            if axis is not None and axis.choices:
                completion.offer(flag, axis.choices)
        else:
            cli.add_numbers(chosen, *flags, dest=name, whole=kind is int, help=text)
    chosen.add_argument(
        "--status",
        nargs="+",
        metavar="NAME",
        help=f"of the trials: ok, {', '.join(FAILURES)} (default: any)",
    )
    parser.add_argument("--all", action="store_true", help="drop every arm")
    parser.add_argument("--yes", action="store_true", help="drop, and do not only show what")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _settings() -> dict[str, type]:
    """The fields of a trial by which it is found, and the types of their values."""
    hints = typing.get_type_hints(Trial)
    return {
        each.name: _plain(hints[each.name])
        for each in fields(Trial)
        if each.name != "noise_source" and not each.name.endswith("_hash")
    }


def _plain(hint: Any) -> type:
    """Of int, float and str the type of `T | None` and of `Literal`; str of anything else."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(each for each in typing.get_args(hint) if each is not types.NoneType)
    return hint if hint in (int, float) else str


def _results(given: argparse.Namespace) -> int:
    root = given.store
    if not os.path.isdir(root / "trials"):  # noqa: PTH112  # pathlib's raises where a name is too long
        raise BadInput(f"Expected {root} to be a folder that a sweep has written.")
    from dpbench import store
    from dpbench.analysis import selection
    from dpbench.privacy import accounting

    settings = {
        name: getattr(given, name)
        for name in (*_settings(), "status")
        if getattr(given, name) is not None
    }
    if given.action == "drop" and not (settings or given.all):
        raise BadInput("Expected settings of the arms to drop, such as --noise 1, or --all.")
    trials = store.read_trials(root)
    found = selection.matching(trials, settings)
    if found.empty:
        print(f"{root}: none of {_counted(trials)} fits.", file=sys.stderr)
        return cli.EXIT_NOTHING
    found = trials[trials["trial_id"].isin(found["trial_id"])]  # every epoch of each
    found = accounting.by_one_accountant(found)
    _print(given, root, found, selection.arms(found))
    return _drop(given, root, found) if given.action == "drop" else 0


def _counted(trials: "pd.DataFrame") -> str:
    return strings.counted(trials["trial_id"].nunique(), "trial")


def _print(
    given: argparse.Namespace, root: Path, found: "pd.DataFrame", arms: "pd.DataFrame"
) -> None:
    from dpbench.reporting import arms_text

    if given.json:
        last = found.sort_values("epoch", kind="stable").groupby("trial_id").tail(1)
        rows = {"arms": arms} if given.action == "list" else {"arms": arms, "trials": last}
        plain = {
            name: [_timeless(row) for row in frame.to_dict("records")]
            for name, frame in rows.items()
        }
        print(strings.json_text(schema_version=JSON_VERSION, store=str(root), **plain))
    elif given.action == "show":
        print("\n\n".join(arms_text.details(arms, found, root)))
    else:
        print(arms_text.table(arms))
        print(f"{strings.counted(len(arms), 'arm')}, {_counted(found)} in {root}")


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    """The row with dates as text."""
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in row.items()
    }


def _drop(given: argparse.Namespace, root: Path, found: "pd.DataFrame") -> int:
    """Removes the trials, and writes the page without them."""
    from dpbench import store

    if not given.yes:
        console.say(f"Nothing is removed; --yes removes {_counted(found)}.")
        return cli.EXIT_NOTHING
    store.drop(root, set(found["trial_id"]))
    console.say(f"Removed {_counted(found)}; a sweep that asks for them runs them again.")
    from dpbench.reporting import store_report

    if store_report.write_report(root) is None:
        (root / "report.html").unlink(missing_ok=True)  # it would show what is no longer there
    return 0


if __name__ == "__main__":
    sys.exit(main())
