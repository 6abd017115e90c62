"""Parquet files that appear whole or not at all.

What is being written lies in a hidden folder of the store, which no reader lists. pyarrow is given
open files, not paths: it refuses paths that are not UTF-8.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dpbench.errors import DamagedFile

SCRATCH = ".writing"
_DEAD_SECONDS = 3600.0  # no write of one file takes as long


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The file's table, its checksums verified; of the named columns those that it has.

    Raises:
        DamagedFile: It is not a whole parquet file, or its bytes are not those that were written.
        OSError: The system does not give us the file.
        MemoryError: There is too little memory for it.
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
        with path.open("rb") as file, pq.ParquetFile(file, page_checksum_verification=True) as rows:
            yield rows
    except MemoryError:  # pyarrow's, too; it says nothing about the file
        raise
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DamagedFile(path, str(error).partition("\n")[0]) from error
    except IsADirectoryError as error:
        raise DamagedFile(path, "it is a folder") from error
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DamagedFile(path, "it links to what is not there") from error
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedFile(path, str(error).partition("\n")[0]) from error


def write(root: Path, path: Path, table: pa.Table) -> None:
    """Writes the table to a file of the store at `root`: flushed to the disk, and then renamed.

    Raises:
        OSError: The disk is full, read-only or gone; nothing is left of the file.
    """
    temporary = root / SCRATCH / f"{path.name}.tmp"
    if path.parent.is_symlink():  # possibly to another disk, to which nothing can be renamed
        temporary = path.with_name(f".{path.name}.tmp")
    with _appearing(path, temporary) as file:
        pq.write_table(table, file, write_page_checksum=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file of any kind as `write` does, without a store's lock.

    Raises:
        OSError: The disk is full, read-only or gone; what was there before is intact.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    _remove_left(path)
    with _appearing(path, path.with_name(f".{path.name}.{os.getpid()}.tmp")) as file:
        file.write(content)


def _remove_left(path: Path) -> None:
    """Removes temporary files of the file whose writers have surely died."""
    temporary = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
    found: list[Path] = []
    with suppress(OSError):  # a folder that can be written to need not be readable
        found = [left for left in path.parent.iterdir() if temporary.fullmatch(left.name)]
    for left in found:
        with suppress(OSError):
            if left.lstat().st_mtime < time.time() - _DEAD_SECONDS:
                left.unlink()


@contextmanager
def _appearing(path: Path, temporary: Path) -> Iterator[BinaryIO]:
    """A file to write to, which has the temporary name until all of it is on the disk."""
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def remove_unfinished(root: Path, folder: Path) -> None:
    """Removes the temporary files of writers that died; for a holder of the store's lock."""
    for left in (root / SCRATCH).glob("*.tmp"):
        left.unlink()
    if folder.is_symlink():
        for left in folder.glob(".*.parquet.tmp"):
            left.unlink()


def unused(path: Path) -> Path:
    """The path, or one beside it if there is something already."""
    while os.path.lexists(path):
        path = path.with_name(f"again-{path.name}")
    return path


def _sync(folder: Path) -> None:
    """Flushes a folder's names to the disk; nothing on Windows, which opens no folder."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
