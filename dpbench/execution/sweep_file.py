"""A sweep file: TOML of a dataset, questions, and axes that `[[grid]]` tables may tie together."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpbench import plugins, user_code
from dpbench.errors import BadInput
from dpbench.execution import grid
from dpbench.execution.grid import Grid

SETTINGS = ("dataset", "answer_at", "confirm", "tuned_in")  # keys of the top level beside the axes

_REFERENCES = {
    "dataset",
    "loss",
    "model",
}  # whose files are relative to the folder of the sweep file


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFile:
    """What a sweep file says.

    Attributes:
        text: Of the file.
        settings: Values of SETTINGS.
        axes: Of the top level; they hold for every grid.
        tables: The axes of each `[[grid]]` table; one empty table where there is none.
    """

    text: str = ""
    settings: Mapping[str, Any]
    axes: Mapping[str, Any]
    tables: Sequence[Mapping[str, Any]]

    def grids(self, flags: Mapping[str, Any]) -> list[Grid]:
        """The file's grids. A flag wins over a table, and a table over the top level.

        Raises:
            BadInput: A value is of the wrong type, or a grid is not valid.
        """
        return [grid.grid(flags, table, self.axes) for table in self.tables]


def read(path: Path) -> SweepFile:
    """The file's content. It is read once, since it may be a pipe.

    Raises:
        BadInput: It cannot be read, is no TOML, or has an unknown key.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise BadInput(f"Cannot read the sweep file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The sweep file {path} is not TOML: {error}.") from error


def parse(text: str, path: Path | None = None) -> SweepFile:
    """The content of a sweep file with that text; of the empty text, one grid of no axes.

    Args:
        text: TOML.
        path: For messages.

    Raises:
        BadInput: It is no TOML, or has an unknown key.
    """
    try:
        top = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"The sweep file {path} is not TOML: {error}.") from error
    tables = top.pop("grid", [{}])
    if not (isinstance(tables, list) and tables and all(isinstance(t, dict) for t in tables)):
        raise BadInput(f"Expected grid in {path} to be one or more [[grid]] tables.")
    for keys, known in (
        (top, [*SETTINGS, "grid", *grid.AXES]),
        *((t, [*grid.AXES]) for t in tables),
    ):
        for key in keys:
            if key not in known:
                remedy = plugins.nearest(key, known)
                raise BadInput(f"Unknown key {key!r} in {path}: {remedy}")
    folder = Path() if path is None else path.parent
    for keys in (top, *tables):
        for key in keys.keys() & _REFERENCES:
            keys[key] = user_code.placed(keys[key], folder)
    return SweepFile(
        text=text,
        settings={name: value for name, value in top.items() if name in SETTINGS},
        axes={name: value for name, value in top.items() if name in grid.AXES},
        tables=tables,
    )
