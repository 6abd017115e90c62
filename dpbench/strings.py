"""Strings for people and for programs: counts with nouns, aligned tables, JSON."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LINE_CHARACTERS = 100  # width of explanations, and of a reason that stands in a line with others


def counted(count: int, noun: str) -> str:
    """The number with its noun: 1 trial, 1,200 trials."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def named(noun: str, values: Sequence[object]) -> str:
    """The noun with its values: seed 3, seeds 3, 4, 5."""
    return f"{noun}{'' if len(values) == 1 else 's'} {', '.join(map(str, values))}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], columns: int | None = None) -> str:
    """Lines of aligned columns: the first to the left, the others to the right.

    Args:
        header: Above the columns.
        rows: As many texts each.
        columns: The most characters in a line. In a wider table the first text of a row stands on a
            line of its own and, where that is not enough, every other, too, behind its name.
    """
    cells = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_aligned(line, widths) for line in cells]
    if columns is None or max(map(len, lines)) <= columns:
        return "\n".join(lines)
    beneath = [_aligned(["", *line[1:]], [2, *widths[1:]]) for line in cells]
    if max(map(len, beneath)) <= columns:
        return "\n".join(f"{line[0]}\n{rest}" for line, rest in zip(cells, beneath, strict=True))
    return "\n".join(
        "\n".join([line[0], *(f"  {name or '-'}: {cell}" for name, cell in named if cell)])
        for line in cells[1:]
        for named in [list(zip(header[1:], line[1:], strict=True))]
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell.rjust(width) if index else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def printable(text: object) -> str:
    """The text as one line without control characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())


def one_line(text: object) -> str:
    """The first LINE_CHARACTERS of the text, as one line without control characters."""
    shown = printable(text)
    return shown if len(shown) <= LINE_CHARACTERS else shown[: LINE_CHARACTERS - 3] + "..."


def file_name(text: str) -> str:
    """The text as part of a file's name: mine.py:make(width=16) is mine.py-make-width-16."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def json_text(**parts: Any) -> str:
    """One JSON object. Frames become lists of rows; NaN and infinities become null."""
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
