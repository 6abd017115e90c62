"""Shell completion by argcomplete, which is imported only where a shell asks for it."""

import argparse
import os
from collections.abc import Sequence

VARIABLE = "_ARGCOMPLETE"  # that a shell sets where it asks


def answer(parser: argparse.ArgumentParser) -> None:
    """Where a shell asks, tells it what may follow, and ends the process; else does nothing."""
    if VARIABLE not in os.environ:
        return
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options="long")


def offer(flag: argparse.Action, names: Sequence[str]) -> None:
    """Completes the values of a flag to these names."""
    flag.completer = lambda **_: names  # type: ignore[attr-defined]  # argcomplete reads it


def command(names: Sequence[str]) -> list[str]:
    """The command whose flags a shell asks for, which its parser then answers.

    Takes the command from the line that is completed, so that the parser sees its own part alone.
    Where the line has none yet, answers with the names and ends the process.
    """
    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    first = int(os.environ[VARIABLE])  # words that are the program, as in `python -m dpbench`
    before = line[:point].split(" ")
    words = [index for index, word in enumerate(before) if word]
    if len(words) > first and words[first] < len(before) - 1 and before[words[first]] in names:
        position = words[first]
        left_out = len(before[position]) + 1
        os.environ["COMP_LINE"] = (
            " ".join([*before[:position], *before[position + 1 :]]) + line[point:]
        )
        os.environ["COMP_POINT"] = str(point - left_out)
        return [before[position]]
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("command", choices=names)
    answer(parser)
    return []
