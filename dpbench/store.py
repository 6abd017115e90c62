"""A store: a results directory of parquet files, `trials/` and `timings/`, one file each.

A file appears whole or not at all: it is written under a name that readers ignore, flushed to the
disk, and renamed. Reading never writes.
"""

import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dpbench.trial import BadInput, Environment, Epoch, StepTiming, Trial

SCHEMA_VERSION = 1

Row = Mapping[str, Any]

_ARROW_TYPES = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def trial_row(trial: Trial, seen: Epoch, where: Environment) -> dict[str, Any]:
    """A row of `trials`: the flat union of what was asked, what was seen, and where."""
    return {
        "schema_version": SCHEMA_VERSION,
        "trial_id": trial.trial_id,
        **asdict(trial),
        **asdict(seen),
        **asdict(where),
    }


def timing_row(timing: StepTiming, where: Environment) -> dict[str, Any]:
    """A row of `timings`: the flat union of what was seen and where."""
    return {"schema_version": SCHEMA_VERSION, **asdict(timing), **asdict(where)}


def _schema(keys: Mapping[str, type], *nouns: type) -> pa.Schema:
    """The columns of the nouns' fields, in their order, with the widest type of each kind."""
    columns = dict(keys)
    for noun in nouns:
        hints = typing.get_type_hints(noun)
        columns |= {field.name: _base_type(hints[field.name]) for field in fields(noun)}
    return pa.schema([pa.field(name, _ARROW_TYPES[kind]) for name, kind in columns.items()])


def _base_type(hint: Any) -> type:
    """The one type of `T`, `T | None` or `Literal[T, ...]`."""
    if typing.get_origin(hint) is types.UnionType:
        (hint,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
    if typing.get_origin(hint) is typing.Literal:
        return type(typing.get_args(hint)[0])
    assert isinstance(hint, type)
    return hint


TRIALS = _schema({"schema_version": int, "trial_id": str}, Trial, Epoch, Environment)
TIMINGS = _schema({"schema_version": int}, StepTiming, Environment)


def create(root: Path) -> None:
    """Makes the store's folders.

    Raises:
        BadInput: They cannot be made or written to.
    """
    try:
        for folder in (root / "trials", root / "timings"):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise BadInput(
            f"Cannot write results to {root}: {error.strerror}; name another folder with --out."
        ) from error


def write_trial(root: Path, rows: Sequence[Row]) -> None:
    """Writes a trial's rows, in place of those of an earlier try."""
    _write(root / "trials" / f"{rows[0]['trial_id']}.parquet", rows, TRIALS)


def write_timings(root: Path, name: str, rows: Sequence[Row]) -> None:
    """Writes the rows of one timing, in place of those of that name."""
    _write(root / "timings" / f"{name}.parquet", rows, TIMINGS)


def read_trials(root: Path) -> pd.DataFrame:
    """Every row of `trials`, sorted by what was asked; empty where there is none.

    Raises:
        BadInput: The store holds rows of a newer schema, or a damaged file.
    """
    frame = _read(root / "trials", TRIALS)
    by = [field.name for field in fields(Trial)]
    return frame.sort_values([*by, "epoch"], na_position="first", ignore_index=True)


def read_timings(root: Path) -> pd.DataFrame:
    """Every row of `timings`; empty where there is none.

    Raises:
        BadInput: The store holds rows of a newer schema, or a damaged file.
    """
    frame = _read(root / "timings", TIMINGS)
    return frame.sort_values(["device", "batch_size", "engine", "pair"], ignore_index=True)


def finished(root: Path) -> set[str]:
    """The ids of the trials whose last epoch is there."""
    frame = read_trials(root)
    done = frame[(frame["status"] == "ok") & (frame["epoch"] == frame["epochs"])]
    return set(done["trial_id"])


def _write(path: Path, rows: Sequence[Row], schema: pa.Schema) -> None:
    for row in rows:
        if set(row) != set(schema.names):
            differing = sorted(set(row) ^ set(schema.names))
            raise ValueError(
                f"Expected the row to have the schema's columns; differing: {differing}"
            )
    table = pa.Table.from_pylist(list(rows), schema=schema)
    # a leading dot and no .parquet suffix: every reader passes over it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(folder: Path, schema: pa.Schema) -> pd.DataFrame:
    files = sorted(folder.glob("*.parquet"))
    tables = []
    for file in files:
        try:
            table = pq.read_table(file)
        except pa.ArrowInvalid as error:
            raise BadInput(f"{file} is damaged; move it away, and its trial runs again.") from error
        newest = max(table["schema_version"].to_pylist(), default=SCHEMA_VERSION)
        if newest > SCHEMA_VERSION:
            raise BadInput(
                f"{file} is of schema version {newest} and this dpbench reads up to "
                f"{SCHEMA_VERSION}: upgrade dpbench to read it."
            )
        tables.append(table.cast(schema))
    return (pa.concat_tables(tables) if tables else schema.empty_table()).to_pandas()
