"""What all commands share: the parser, the exit codes, and how errors end a command."""

import argparse
import difflib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dpbench import __version__
from dpbench.errors import BadInput
from dpbench.processes import startup

EXIT_FAILED_TRIALS, EXIT_USAGE, EXIT_REGRESSION, EXIT_NOTHING, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
EXIT_NO_READER = 141  # as of any program that SIGPIPE ends


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest flag for one that is not known."""

    def __init__(self, prog: str, description: str | None, exit_codes: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=f"exit codes: {exit_codes}",
        )
        self.add_argument("--version", action="version", version=f"dpbench {__version__}")

    def error(self, message: str) -> NoReturn:
        """Exits with the one line."""
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        flags = list(self._option_string_actions)
        nearest = [flag for flag in flags if flag.startswith(unknown)]
        nearest = nearest or difflib.get_close_matches(unknown, flags, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "see --help"
        self.exit(EXIT_USAGE, f"{self.prog}: {message} ({hint})\n")


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
