"""The columns of a store, which are the fields of `trial`, and rows of older versions."""

import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dpbench.errors import StoreError
from dpbench.observations import TIMED_UNDER, Environment, Epoch, Status, StepTiming
from dpbench.trial import USER_FIELDS, Trial, Workload

# 1: without traceback. 2: epsilons by Opacus, without epsilon_pld, noise_derivation,
# stacked_trials, and status of timings. 3: without optimizer and clipping, which are sgd and flat.
# 4: without what identifies a user's data, model and loss: all are built in. 5: without metrics
# beyond accuracy.
SCHEMA_VERSION = 6

Row = Mapping[str, Any]

_ARROW_TYPES = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def trial_row(trial: Trial, seen: Epoch, where: Environment) -> dict[str, Any]:
    """A row of `trials`: the fields of all three."""
    return {
        "schema_version": SCHEMA_VERSION,
        "trial_id": trial.trial_id,
        **asdict(trial),
        **asdict(seen),
        **asdict(where),
    }


def timing_row(timing: StepTiming, where: Environment) -> dict[str, Any]:
    """A row of `timings`: the fields of both."""
    return {"schema_version": SCHEMA_VERSION, **asdict(timing), **asdict(where)}


def failed_timing_row(
    where: Environment, workload: Workload, *, engine: str, status: Status, reason: str
) -> dict[str, Any]:
    """The row of a timing that has failed; what was to be measured is None."""
    known = asdict(workload) | {"engine": engine}
    known |= {"schema_version": SCHEMA_VERSION, "pair": 0, "status": status, "reason": reason}
    return dict.fromkeys(TIMINGS.names) | known | asdict(where)


def _schema(keys: Mapping[str, type], *classes: type) -> pa.Schema:
    """A column for each field of the classes, with the widest type of its kind."""
    columns = dict(keys)
    for each in classes:
        hints = typing.get_type_hints(each)
        columns |= {field.name: _base_type(hints[field.name]) for field in fields(each)}
    return pa.schema([pa.field(name, _ARROW_TYPES[kind]) for name, kind in columns.items()])


def _base_type(hint: Any) -> type:
    """The one type of `T`, `T | None` or `Literal[T, ...]`."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # the latter of a Literal
        (hint,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
    if typing.get_origin(hint) is typing.Literal:
        return type(typing.get_args(hint)[0])
    assert isinstance(hint, type)
    return hint


TRIALS = _schema({"schema_version": int, "trial_id": str}, Trial, Epoch, Environment)
TIMINGS = _schema({"schema_version": int}, StepTiming, Environment)
TIMING_KEY = (
    "dataset",
    "model",
    *USER_FIELDS,
    "engine",
    "batch_size",
    *TIMED_UNDER,
)  # one timing's rows share it
SCHEMAS = {"trials": TRIALS, "timings": TIMINGS}
_CLASSES = (Trial, Epoch, StepTiming, Environment)
_OPTIONAL = {
    field.name
    for each in _CLASSES
    for field in fields(each)
    if types.NoneType in typing.get_args(typing.get_type_hints(each)[field.name])
}
# The values of rows that were written before the column was introduced
_DEFAULTS = {
    field.name: field.default
    for each in _CLASSES
    for field in fields(each)
    if field.default is not MISSING
}


def refuse_newer(version: int) -> None:
    """Raises StoreError, whose message lacks a file, where rows are of a newer schema than ours."""
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"is of schema version {version} and this dpbench reads up to {SCHEMA_VERSION}: "
            "upgrade dpbench to read it."
        )


def lacking(names: Collection[str], schema: pa.Schema) -> list[str]:
    """The columns of the schema without which rows do not say what they are of; not in the names.

    Every other column may be missing: a row says less without it, but no less than when it was
    written.
    """
    where = {field.name for field in fields(Environment)}
    measured = {"order", "steps", "seconds_per_step", "baseline_seconds_per_step", "alone"}
    spared = _DEFAULTS.keys() | _OPTIONAL | where | measured
    return [name for name in schema.names if name not in names and name not in spared]


def conform(found: pa.Table, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows in the schema's columns, or in some of them.

    A column that they are too old to have holds its field's default, or null where the field has
    none. A column that the schema does not have is left out.

    Raises:
        StoreError: The rows are of a newer schema; the message lacks their file.
        KeyError: They do not say what they are of: see `lacking`.
        ValueError: A column holds values of another type.
    """
    if "schema_version" not in found.column_names:
        raise KeyError("schema_version")
    if not pa.types.is_integer(found["schema_version"].type):
        raise ValueError("its column schema_version holds no integers")
    refuse_newer(pc.max(found["schema_version"]).as_py() or 0)
    wanted = pa.schema([schema.field(name) for name in columns or schema.names])
    if found.schema.equals(wanted):  # as of most files; casting takes longer than reading
        return _filled(found)
    for name in lacking(found.column_names, wanted):
        raise KeyError(name)
    arrays = [
        found[field.name].cast(field.type)
        if field.name in found.column_names
        else pa.repeat(pa.scalar(_DEFAULTS.get(field.name), field.type), len(found))
        for field in wanted
    ]
    return _filled(pa.Table.from_arrays(arrays, schema=wanted))


def _filled(rows: pa.Table) -> pa.Table:
    """The rows, with the default where a column without null holds one.

    Whoever concatenates files of two schemas, as pandas and polars do, gives old rows such nulls.
    """
    for index, name in enumerate(rows.column_names):
        default = None if name in _OPTIONAL else _DEFAULTS.get(name)
        if default is not None and rows[name].null_count:
            rows = rows.set_column(index, rows.schema.field(name), rows[name].fill_null(default))
    return rows


def table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """The rows as a table.

    Raises:
        ValueError: A row lacks a column of the schema, or has another.
    """
    for row in rows:
        if set(row) != set(schema.names):
            differing = sorted(set(row) ^ set(schema.names))
            raise ValueError(
                f"Expected the row to have the schema's columns; differing: {differing}"
            )
    return pa.Table.from_pylist([_printable(row) for row in rows], schema=schema)


def _printable(row: Row) -> dict[str, Any]:
    """The row with texts that UTF-8 can say: error messages may hold undecodable file names."""
    return {
        name: value.encode("utf-8", "backslashreplace").decode()
        if isinstance(value, str)
        else value
        for name, value in row.items()
    }
