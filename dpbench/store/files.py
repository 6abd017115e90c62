"""Files that appear whole or not at all, and folders of them that change at one instant.

What is being written lies in a hidden folder of the store, beside the folders that readers list,
so that no reader meets it. Only the holder of the store's lock writes: whatever lies there when
the lock is taken was left by a writer that died.

pyarrow is given open files, no paths: it takes none that is not UTF-8.
"""

import ctypes
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpbench.errors import DpbenchError

SCRATCH = ".writing"
_DEAD_SECONDS = 3600.0  # no write of one file takes as long

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


class Damaged(DpbenchError):
    """The file holds no table of the store.

    Attributes:
        path: The file.
        whole: Whether it can be read: then it is somebody's table, though not one of ours, and is
            left where it is.
    """

    def __init__(self, path: Path, why: str, *, whole: bool = False) -> None:
        super().__init__(f"{path} is {'no file of this store' if whole else 'damaged'} ({why})")
        self.path = path
        self.whole = whole


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The file's table, its checksums verified; of the named columns those that it has.

    Raises:
        Damaged: It is not a whole parquet file, or its bytes are not those that were written.
        OSError: The system does not give us the file.
        MemoryError: There is too little memory for it.
    """
    with _opened(path) as file:
        return file.read(columns=columns)


def column_names(path: Path) -> list[str]:
    """The names of the file's columns; raises what `read` raises."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def greatest(path: Path, column: str) -> int:
    """The column's greatest value, off the file's statistics alone where it has them; 0 for none.

    Raises what `read` raises, and Damaged where the column is not there or holds no integers.
    """
    with _opened(path) as file:
        found = file.metadata
        paths = [found.schema.column(index).path for index in range(found.num_columns)]
        if column not in paths or not pa.types.is_integer(file.schema_arrow.field(column).type):
            raise Damaged(path, f"it has no column {column} of integers")
        groups = [found.row_group(index) for index in range(found.num_row_groups)]
        statistics = [group.column(paths.index(column)).statistics for group in groups]
        if all(each is not None and each.has_min_max for each in statistics):
            return max((int(each.max) for each in statistics), default=0)
        return pc.max(file.read(columns=[column])[column]).as_py() or 0


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with path.open("rb") as file, pq.ParquetFile(file, page_checksum_verification=True) as rows:
            yield rows
    except MemoryError:  # pyarrow's, too, and no word on the file
        raise
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise Damaged(path, str(error).partition("\n")[0]) from error
    except IsADirectoryError as error:
        raise Damaged(path, "it is a folder") from error
    except FileNotFoundError as error:
        if path.is_symlink():
            raise Damaged(path, "it links to what is not there") from error
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise Damaged(path, str(error).partition("\n")[0]) from error


def write(root: Path, path: Path, table: pa.Table) -> None:
    """Writes the table to a file of the store at `root`: flushed to the disk, and then renamed.

    Raises:
        OSError: The disk is full, read-only or gone; nothing is left of the file.
    """
    temporary = root / SCRATCH / f"{path.name}.tmp"
    if path.parent.is_symlink():  # and may lie on another disk, to which nothing can be renamed
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
    """Removes what writers of the file have left of it that have surely died."""
    temporary = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
    found: list[Path] = []
    with suppress(OSError):  # a folder need not be readable to be written to
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


def remove_unfinished(root: Path, names: Collection[str]) -> None:
    """Removes what a writer that died has left of files, in these folders of the store."""
    for left in (root / SCRATCH).glob("*.tmp"):
        left.unlink()
    for name in names:
        if (root / name).is_symlink():
            for left in (root / name).glob(".*.parquet.tmp"):
                left.unlink()


def replace_folder(
    root: Path,
    name: str,
    replaced: Collection[Path],
    kept: Mapping[str, Path],
    tables: Mapping[str, pa.Table],
) -> None:
    """Puts a folder of these files in the place of the store's folder `name`, at one instant.

    The old folder stays under SCRATCH until the next replacement: a reader that is listing it
    still finds all of it. What else lies there, as a user's notes, is moved to the new one.

    Args:
        root: The store.
        name: Of the folder, which is no link.
        replaced: Files of the old folder that stay behind; all that are kept are among them.
        kept: Files to keep, under their names in the new folder.
        tables: To write, under theirs.

    Raises:
        OSError: The new folder could not be written; the old one is in its place.
    """
    old, new = root / name, root / SCRATCH / name
    recover(root, name)
    clear(new)
    new.mkdir()
    for label, path in kept.items():
        _link(path, new / label)
    for label, table in tables.items():
        write(root, new / label, table)
    _sync(new)
    if not _exchange(new, old):
        aside = _aside(root, name)
        clear(aside)
        old.rename(aside)
        new.rename(old)  # between the two lines there is no such folder: see `recover`
        aside.rename(new)
    known = {path.name for path in replaced}
    _bring([each for each in new.iterdir() if each.name not in known], old)
    _sync(root)


def recover(root: Path, name: str) -> None:
    """Makes the folder, with all that a replacement that was cut short has left elsewhere."""
    folder, aside = root / name, _aside(root, name)
    if aside.is_dir() and not folder.is_dir():  # it ended between two renames
        aside.rename(folder)
    folder.mkdir(exist_ok=True)
    for left in (root / SCRATCH / name, aside):
        if left.is_dir() and not left.is_symlink():
            _bring(filter(_foreign, list(left.iterdir())), folder)


def unused(path: Path) -> Path:
    """The path, or one beside it where there is something already."""
    while os.path.lexists(path):
        path = path.with_name(f"again-{path.name}")
    return path


def clear(path: Path) -> None:
    """Removes a folder or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _bring(entries: Iterable[Path], folder: Path) -> None:
    """Moves them, whatever they are, to the folder."""
    for entry in entries:
        with suppress(FileNotFoundError):  # whoever made it has removed it
            entry.rename(unused(folder / entry.name))


def _foreign(path: Path) -> bool:
    """Whether an entry of a store's folder is none of ours."""
    return path.suffix != ".parquet" or (path.is_dir() and not path.is_symlink())


def _link(path: Path, name: Path) -> None:
    """Gives the file a second name; or a copy, where the file system has no such thing."""
    try:
        os.link(path, name)
    except OSError:
        shutil.copy2(path, name)
        _sync(name)


def _aside(root: Path, name: str) -> Path:
    return root / SCRATCH / f"{name}.old"


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names at one instant; False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux, with glibc from 2.28 on
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _sync(path: Path) -> None:
    """Flushes a file, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
