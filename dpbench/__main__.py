# PYTHON_ARGCOMPLETE_OK
"""`python -m dpbench COMMAND`, and the console command `dpbench`."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dpbench import __version__, cli, completion, plugins

COMMANDS = {
    "sweep": "train over a grid of privacy settings and measure what privacy costs",
    "report": "write a results folder's page and figures again",
    "results": "find, show and drop the arms of a results folder",
    "check": "check which engines are right for a model, and what a step takes",
    "timing": "time training steps against the non-private one",
    "compare": "compare two results folders, as after an upgrade",
    "audit": "look for a step that is less private than it claims",
    "compact": "put the trials of a large results folder into fewer files",
    "epsilon": "compute the epsilon of a run, or the noise for a target epsilon",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that is named first; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    prog = "python -m dpbench" if Path(sys.argv[0]) == Path(__file__) else "dpbench"
    if completion.VARIABLE in os.environ:
        given = completion.command(list(COMMANDS))
    name, rest = (given[0], given[1:]) if given else ("--help", [])
    if name in ("--version", "-V"):
        print(f"dpbench {__version__}")
        return 0
    if name in ("--help", "-h"):
        print(_help(prog))
        return 0
    if name not in COMMANDS:
        remedy = plugins.nearest(name, list(COMMANDS))
        print(f"{prog}: Unknown command {name!r}: {remedy}", file=sys.stderr)
        return cli.EXIT_USAGE
    command = importlib.import_module(f"dpbench.{name}")
    return int(command.main(rest, prog=f"{prog} {name}"))


def _help(prog: str) -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {prog} COMMAND ...",
            "",
            *lines,
            "",
            f"{prog} COMMAND --help shows its flags, with examples.",
            "",
            "examples:",
            f"  {prog} sweep --dry-run",
            f"  {prog} report results/mnist-quick",
            "",
            'completion in bash and zsh: eval "$(register-python-argcomplete dpbench)"',
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
