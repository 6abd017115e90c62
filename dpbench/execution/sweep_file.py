"""A sweep file: TOML of a dataset, questions, and axes that `[[grid]]` tables may tie together."""

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpbench import flag_names, user_code
from dpbench.errors import BadInput
from dpbench.execution import grid
from dpbench.execution.grid import Grid

SETTINGS = (
    "dataset",
    "answer_at",
    "confirm",
    "tuned_in",
    "search",
    "private_selection",
    "total_epsilon",
    "private_scores",
    "early_stop",
    "search_method",
)  # what a plan takes beside the axes

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
        settings: Of the flags that are no axes.
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


def read(path: Path, settings: Collection[str] = SETTINGS) -> SweepFile:
    """The file's content. It is read once, since it may be a pipe.

    Args:
        path: Its path. A byte-order mark at its start is passed over.
        settings: As of `parse`.

    Raises:
        BadInput: It cannot be read, is no TOML, or has an unknown key.
    """
    try:
        return parse(path.read_text(encoding="utf-8-sig"), path, settings)
    except OSError as error:
        raise BadInput(f"Cannot read the sweep file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The sweep file {path} is not TOML: {error}.") from error


def parse(text: str, path: Path | None = None, settings: Collection[str] = SETTINGS) -> SweepFile:
    """The content of a sweep file with that text; of the empty text, one grid of no axes.

    Args:
        text: TOML.
        path: For messages.
        settings: Keys of the top level beside the axes: the flags of the command that reads it.

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
    of_axes = {key for each in grid.AXES.values() for key in each.keys}
    for table in tables:
        for key in table:
            if key in settings and key not in of_axes:
                raise BadInput(
                    f"Unknown key {key!r} in a [[grid]] of {path}: it holds for the whole sweep, "
                    "so put it above the first [[grid]]."
                )
            _refuse_unknown(key, of_axes, path)
    for key in top:
        _refuse_unknown(key, {*settings, *of_axes, "grid"}, path)
    folder = Path() if path is None else path.parent
    for keys in (top, *tables):
        for key in keys.keys() & _REFERENCES:
            keys[key] = user_code.placed(keys[key], folder)
    return SweepFile(
        text=text,
        settings={key: value for key, value in top.items() if key not in of_axes},
        axes=_axes({key: value for key, value in top.items() if key in of_axes}, path),
        tables=[_axes(table, path) for table in tables],
    )


def _refuse_unknown(key: str, known: Collection[str], path: Path | None) -> None:
    """Raises BadInput for a key that is not known, with the one that may be meant."""
    if key in known:
        return
    flags = [f"--{each.replace('_', '-')}" for each in known]
    remedy = flag_names.meant(f"--{key.replace('_', '-')}", flags)
    hint = remedy and re.sub(r"--[a-z0-9-]+", lambda flag: flag_names.key(flag[0]), remedy)
    raise BadInput(
        f"Unknown key {key!r} in {path}"
        + (f": {hint}" if hint else "; the keys are the flags of `dpbench sweep --help-all`.")
    )


def _axes(table: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    """The table by the names of the axes, whichever of its flags' names each has.

    Raises:
        BadInput: Two keys are of one axis.
    """
    found: dict[str, Any] = {}
    typed: dict[str, str] = {}
    for key, value in table.items():
        axis = next(each for each in grid.AXES.values() if key in each.keys)
        if axis.name in found:
            raise BadInput(f"Expected {typed[axis.name]} or {key} in {path}, not both.")
        opposite = axis.keys[key] and isinstance(value, bool)
        found[axis.name] = not value if opposite else value
        typed[axis.name] = key
    return found
