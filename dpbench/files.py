"""Parquet files that appear whole or not at all, and folders of them that change at one instant.

What is being written lies in a hidden folder of the store, beside the folders that readers list,
so that no reader meets it. Only the holder of the store's lock writes: whatever lies there when
the lock is taken was left by a writer that died.
"""

import ctypes
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCRATCH = ".writing"

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


class Damaged(Exception):
    """The file holds no whole table."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged ({why})")
        self.path = path


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The file's table, its checksums verified; of the named columns those that it has.

    Raises:
        Damaged: It is not a whole parquet file, or its bytes are not those that were written.
        OSError: The system does not give us the file.
    """
    with _opened(path) as file:
        return file.read(columns=columns)


def column_names(path: Path) -> list[str]:
    """The names of the file's columns; raises what `read` raises."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged(path, str(error).partition("\n")[0]) from error


def write(root: Path, path: Path, table: pa.Table) -> None:
    """Writes the table to a file of the store at `root`: flushed to the disk, and then renamed.

    Raises:
        OSError: The disk is full, read-only or gone; nothing is left of the file.
    """
    temporary = root / SCRATCH / f"{path.name}.tmp"
    try:
        with temporary.open("wb") as file:
            pq.write_table(table, file, write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def replace_folder(
    root: Path, name: str, kept: Mapping[str, Path], tables: Mapping[str, pa.Table]
) -> None:
    """Puts a folder of these files in the place of the store's folder `name`, at one instant.

    The old folder stays under SCRATCH until the next replacement: a reader that is listing it
    still finds all of it.

    Args:
        root: The store.
        name: Of the folder.
        kept: Files to keep, under their names in the new folder.
        tables: To write, under theirs.

    Raises:
        OSError: The new folder could not be written; the old one is in its place.
    """
    old, new = root / name, root / SCRATCH / name
    clear(new)
    new.mkdir()
    for label, path in kept.items():
        os.link(path, new / label)
    for label, table in tables.items():
        write(root, new / label, table)
    _sync(new)
    if not _exchange(new, old):
        aside = _aside(root, name)
        clear(aside)
        old.rename(aside)
        new.rename(old)  # between the two lines there is no such folder: see `recover`
        aside.rename(new)
    _sync(root)


def recover(root: Path, name: str) -> None:
    """Puts back a folder whose replacement ended between two renames."""
    aside = _aside(root, name)
    if aside.is_dir() and not (root / name).is_dir():
        aside.rename(root / name)


def clear(path: Path) -> None:
    """Removes a folder or a file, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _aside(root: Path, name: str) -> Path:
    return root / SCRATCH / f"{name}.old"


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names at one instant; False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux, with glibc from 2.28 on
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _sync(folder: Path) -> None:
    """Flushes the folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
