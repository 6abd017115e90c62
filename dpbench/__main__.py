"""`python -m dpbench COMMAND`, and the console command `dpbench`."""

import importlib
import sys
from collections.abc import Sequence

from dpbench import __version__, cli

COMMANDS = {
    "sweep": "train over a grid of privacy settings and measure what privacy costs",
    "report": "write a results folder's page and figures again",
    "timing": "time training steps against the non-private one",
    "compare": "compare two results folders, as after an upgrade",
    "audit": "look for a step that is less private than it claims",
    "compact": "put the trials of a large results folder into fewer files",
    "epsilon": "compute the epsilon of a run, or the noise for a target epsilon",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that is named first; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = (given[0], given[1:]) if given else ("--help", [])
    if name in ("--version", "-V"):
        print(f"dpbench {__version__}")
        return 0
    if name in ("--help", "-h"):
        print(_help())
        return 0
    if name not in COMMANDS:
        listed = ", ".join(COMMANDS)
        print(f"dpbench: Unknown command {name!r}: use one of {listed}.", file=sys.stderr)
        return cli.EXIT_USAGE
    return int(importlib.import_module(f"dpbench.{name}").main(rest))


def _help() -> str:
    lines = [f"  {name:<8}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: dpbench COMMAND ...", "", *lines, "", "dpbench COMMAND --help tells its flags."]
    )


if __name__ == "__main__":
    sys.exit(main())
