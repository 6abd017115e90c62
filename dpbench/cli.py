"""What all commands share: how they run, the exit codes, and how errors end a command."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dpbench import completion, datasets, number_lists, plugins
from dpbench.command_parser import EXIT_USAGE, Parser
from dpbench.datasets import AUTO
from dpbench.errors import BadInput
from dpbench.processes import startup

__all__ = [
    "EXIT_FAILED_TRIALS",
    "EXIT_INTERRUPTED",
    "EXIT_NOTHING",
    "EXIT_NO_READER",
    "EXIT_REGRESSION",
    "EXIT_USAGE",
    "Parser",
    "add_choose_by",
    "add_numbers",
    "add_output_flags",
    "add_task_flags",
    "run",
]

EXIT_FAILED_TRIALS, EXIT_REGRESSION, EXIT_NOTHING, EXIT_INTERRUPTED = 1, 3, 4, 130
EXIT_NO_READER = 141  # as of any program that SIGPIPE ends


def run(
    parser: Parser,
    arguments: Sequence[str] | None,
    command: Callable[[argparse.Namespace], int],
) -> int:
    """The command's exit code; bad input is one line on stderr and exit code 2.

    Where the reader of what it prints has gone, as of `| head`, it ends without a word.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    completion.answer(parser)
    given = parser.parse_args(arguments)
    try:
        with startup.rare_garbage_collection():
            code = command(given)
        sys.stdout.flush()
    except BadInput as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be flushed at exit
        return EXIT_NO_READER
    return code


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --json and --quiet, which exclude one another."""
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_choose_by(group: "argparse._ActionsContainer") -> None:
    """Adds --choose-by."""
    group.add_argument(
        "--choose-by",
        metavar="METRIC",
        help="what settings are chosen by: accuracy, balanced_accuracy, auroc, loss or a metric of "
        "yours, of which higher is better, or with NAME:lowest lower (default: accuracy; loss "
        "where targets are no classes)",
    )


def add_task_flags(
    group: "argparse._ActionsContainer", *, dataset: str | None = AUTO, model: str = "--model"
) -> None:
    """Adds the flags of one model on one dataset, built in or the user's.

    Args:
        group: To add them to.
        dataset: The default; None where it depends on the others.
        model: The flag, or `model` where the name stands alone.
    """
    names = plugins.names("models")
    taken: dict[str, Any] = {"nargs": "?", "metavar": "MODEL"} if model == "model" else {}
    of_model = group.add_argument(
        model,
        help=f"of {', '.join(names)}, or a function of yours, FILE.py:make (default: "
        f"{'tutorial-cnn' if dataset is None else 'the one of the dataset'})",
        **({"metavar": "NAME"} | taken),
    )
    completion.offer(of_model, names)
    group.add_argument(
        "--model-args", nargs="+", metavar="NAME=VALUE", help="of your function (default: none)"
    )
    of_dataset = group.add_argument(
        "--dataset",
        default=dataset,
        metavar="NAME",
        help=f"of {', '.join(datasets.names())}, or a function of yours, FILE.py:load (default: "
        f"{datasets.DEFAULT if dataset is None else dataset})",
    )
    completion.offer(of_dataset, (AUTO, *datasets.names()))
    group.add_argument(
        "--loss", metavar="NAME", help="a function of yours, FILE.py:loss (default: cross entropy)"
    )
    group.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="where the data are, which your function is given (default: DPBENCH_DATA, or a folder "
        "in the user's cache)",
    )


class _Numbers(argparse.Action):
    """The numbers of all values, each a list or a range as `number_lists` has them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _option: str | None = None,
    ) -> None:
        kind, name = int if self.metavar == "N" else float, self.dest
        try:
            numbers = [each for text in values for each in number_lists.parsed(name, text, kind)]
        except BadInput as error:
            parser.error(str(error))
        setattr(namespace, self.dest, numbers)


def add_numbers(
    group: "argparse._ActionsContainer", *flags: str, whole: bool = False, **known: Any
) -> None:
    """Adds a flag of one or more numbers, which may be typed as a list or a range.

    Args:
        group: To add it to.
        flags: With dashes.
        whole: Whether the numbers are whole.
        known: As of `add_argument`.
    """
    known = {"nargs": "+", "metavar": "N" if whole else "X"} | known
    group.add_argument(*flags, action=_Numbers, **known)
