"""What the commands share: a parser, exit codes, where data lies, on which devices to run."""

import argparse
import difflib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from dpbench import datasets
from dpbench.errors import BadInput

EXIT_FAILED_TRIALS, EXIT_USAGE, EXIT_REGRESSION, EXIT_NOTHING, EXIT_INTERRUPTED = 1, 2, 3, 4, 130
EXIT_NO_READER = 141  # as of any program that SIGPIPE ends
LINE_CHARACTERS = 100  # of a reason, where it is one of many


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


def bold(text: str) -> str:
    """The text in bold, where standard output is a terminal and NO_COLOR is not set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[1m{text}\x1b[0m"


def say(line: str) -> None:
    """Prints the line on stderr, if anybody can read it there: a sweep goes on where nobody can."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def one_object(**parts: Any) -> str:
    """JSON of one object; frames become lists of rows, and what JSON cannot say becomes null."""
    return json.dumps(_plain(parts), allow_nan=False, indent=2)


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):  # a pandas frame, without importing pandas
        value = value.to_dict("records")
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def counted(count: int, noun: str) -> str:
    """The number with its noun: 1 trial, 1,200 trials."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def named(noun: str, values: Sequence[object]) -> str:
    """The noun with its values: seed 3, seeds 3, 4, 5."""
    return f"{noun}{'' if len(values) == 1 else 's'} {', '.join(map(str, values))}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of aligned columns: the first to the left, the others to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def data_root(flag: Path | None) -> Path:
    """The flag's folder, or DPBENCH_DATA, or one in the user's cache."""
    if flag is not None:
        return flag
    if named := os.environ.get("DPBENCH_DATA"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpbench"


def dataset(asked: str, data_root: Path, *, dry_run: bool = False) -> str:
    """The dataset's name; `auto` resolved, with a line on stderr where it is not MNIST.

    Raises:
        BadInput: There is no such dataset.
    """
    if asked != datasets.AUTO:
        datasets.spec(asked)
        return asked
    first, fallback = datasets.DEFAULT, datasets.stand_in(datasets.DEFAULT)
    if datasets.present(first, data_root) or fallback is None:
        return first
    title = datasets.spec(first).title
    if dry_run:
        print(
            f"{title} is not under {data_root}: a run would ask a mirror for it, and fall back to "
            f"{fallback} (--dataset {fallback} shows that plan).",
            file=sys.stderr,
        )
        return first
    from dpbench.datasets import loading

    try:
        loading.load(first, data_root, "cpu")
    except BadInput:
        size = datasets.spec(fallback).train_examples
        print(
            f"{title} is not under {data_root} and no mirror answers: running on the embedded "
            f"{fallback} ({size:,} training images) instead; for {title} give --data-root.",
            file=sys.stderr,
        )
        return fallback
    return first


def devices(names: Sequence[str]) -> tuple[str, ...]:
    """`cpu` or `cuda:N` for each of the names; `auto` is the first GPU, or the CPU without one.

    Raises:
        BadInput: A name is no device, one that is not there, or one named before.
    """
    if list(names) == ["cpu"]:  # which needs no torch to know
        return ("cpu",)

    import torch

    found: list[str] = []
    for name in names:
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"  # noqa: PLW2901
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise BadInput(f"Expected device={name!r} to be auto, cpu, cuda or cuda:N.") from error
        if device.type not in ("cpu", "cuda"):
            raise BadInput(f"Expected device={name!r} to be auto, cpu, cuda or cuda:N.")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise BadInput(
                f"Expected device={name!r} to be one of the {torch.cuda.device_count()} CUDA "
                "devices that PyTorch sees; use --device cpu where there is none."
            )
        resolved = f"cuda:{device.index or 0}" if device.type == "cuda" else "cpu"
        if resolved in found:
            raise BadInput(f"Expected each device once, not {resolved} twice; --jobs shares one.")
        found.append(resolved)
    return tuple(found)


def planned_devices(names: Sequence[str], listed: Path = Path("/dev")) -> tuple[str, ...]:
    """As `devices`, for a plan: `auto` is told without torch, by what Linux lists of GPUs.

    A line on stderr says so where that is a GPU: whether PyTorch can use it, only a run will tell.

    Args:
        names: As typed.
        listed: Where Linux lists devices.

    Raises:
        BadInput: As `devices`.
    """
    if list(names) != ["auto"]:
        return devices(names)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not any(listed.glob("nvidia[0-9]*")):
        return ("cpu",)
    print(
        "There is a GPU in /dev: planned for cuda:0, as --device auto takes where PyTorch can use "
        "it (--device cpu plans without).",
        file=sys.stderr,
    )
    return ("cuda:0",)


def cores() -> int:
    """Processors that this process may use."""
    import joblib

    return int(joblib.cpu_count())


def printable(text: object) -> str:
    """The text as one line that is safe to print: no line ends, no control characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())


def one_line(text: object) -> str:
    """The start of the text, safe to print."""
    shown = printable(text)
    return shown if len(shown) <= LINE_CHARACTERS else shown[: LINE_CHARACTERS - 3] + "..."
