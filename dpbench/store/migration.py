"""Files of an older dpbench -> today's columns and names, each replaced in place.

pandas, duckdb and polars take one file's columns for those of all, so a sweep into an older store
gives all of its files the same columns first. A file stays as it is if it has columns that dpbench
does not know.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dpbench.errors import DamagedFile, StoreError
from dpbench.store import files, reader, schema
from dpbench.store.schema import SCHEMAS

_OLD_NAME = re.compile(r"(.+)-g\d+\.parquet")  # after compaction by an older dpbench
_OLD_PART = re.compile(r"part-\d+\.\d+\.parquet")


def refuse_newer(folder: Path) -> None:
    """Raises StoreError if a file of the folder is of a newer schema."""
    if not os.path.isdir(folder):  # noqa: PTH112  # the writer reports what prevents this
        return
    for path, found in reader.of_each(folder, _schema_version).items():
        try:
            schema.refuse_newer(0 if isinstance(found, DamagedFile) else found)
        except StoreError as error:
            raise StoreError(f"{path} {error}") from error


def _schema_version(path: Path) -> int:
    """The greatest of the file's rows; 0 if they have none."""
    found = files.read(path, ["schema_version"])
    known = found.column_names and pa.types.is_integer(found["schema_version"].type)
    return pc.max(found["schema_version"]).as_py() or 0 if known else 0


def migrate(root: Path, name: str) -> Iterator[DamagedFile]:
    """Renews the folder's old files, under the store's lock; yields the damaged ones.

    Raises:
        OSError: A file could not be written. Files are renewed or as they were.
    """
    folder = root / name
    for path, columns in reader.of_each(folder, files.column_names).items():
        if isinstance(columns, DamagedFile):
            yield columns
            continue
        if _is_old(columns, SCHEMAS[name]):
            try:
                files.write(root, path, reader.load_file(path, SCHEMAS[name]))
            except DamagedFile as damage:
                yield damage
                continue
        if match := _OLD_NAME.fullmatch(path.name):
            target = folder / f"{match[1]}.parquet"
            if _OLD_PART.fullmatch(target.name):
                target = reader.part(folder, len(reader.parts(folder)))
            if not target.exists():  # else one of them is a user's copy
                path.rename(target)


def _is_old(columns: Sequence[str], today: pa.Schema) -> bool:
    """Whether a file of these columns lacks some, and can be rewritten without losing any."""
    return (
        columns != today.names
        and set(columns) <= set(today.names)
        and not schema.lacking(columns, today)
    )
