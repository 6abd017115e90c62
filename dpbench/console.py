"""Output to a terminal that may have gone away or may not show colours."""

import os
import shutil
import sys
import textwrap
from contextlib import suppress

LINE = 79  # characters, of what is printed the same in every terminal


def say(line: str) -> None:
    """Prints the line on stderr. A closed stderr is ignored: a sweep outlives its terminal."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def columns() -> int:
    """Characters in a line of the terminal; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def bold(text: str) -> str:
    """The text in bold where stdout is a terminal and NO_COLOR is not set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[1m{text}\x1b[0m"


def wrapped(text: str) -> str:
    """The text between words in lines of the terminal; one line where stdout is no terminal."""
    if not sys.stdout.isatty():
        return text
    return textwrap.fill(text, columns(), break_long_words=False, break_on_hyphens=False)
