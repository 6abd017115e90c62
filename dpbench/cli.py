"""What all commands share: how they run, the exit codes, and how errors end a command."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dpbench import completion, number_lists
from dpbench.command_parser import EXIT_USAGE, Parser
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
    "add_numbers",
    "add_output_flags",
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
