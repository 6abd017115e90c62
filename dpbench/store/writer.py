"""Writing to a store, one process at a time."""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from dpbench.errors import DamagedFile, StoreError
from dpbench.store import files, locks, migration, outcomes, reader
from dpbench.store.schema import SCHEMAS, TIMING_KEY, TIMINGS, TRIALS, Row, table
from dpbench.trial import USER_FIELDS

_log = logging.getLogger(__name__)


def create(root: Path) -> None:
    """Makes the store's folders, and gives files of an older dpbench today's columns and names.

    Raises:
        StoreError: The folders cannot be made or written to, or the store holds rows of a newer
            schema; then nothing is written.
    """
    for name in SCHEMAS:
        migration.refuse_newer(root / name)
    with _write_errors(root):
        (root / files.SCRATCH).mkdir(parents=True, exist_ok=True)
        with locked(root):
            for name in SCHEMAS:
                folder = root / name
                folder.mkdir(exist_ok=True)
                probe = folder / ".probe"
                probe.touch()
                probe.unlink()
                files.remove_unfinished(root, folder)
                for damage in migration.migrate(root, name):
                    set_aside(root, damage)


def write_trial(root: Path, rows: Sequence[Row]) -> None:
    """Writes a trial's rows, in place of those of an earlier try; a finished trial stays.

    Raises:
        StoreError: The rows could not be written; what was there before is intact.
    """
    whole = table(rows, TRIALS)
    trial_id = str(rows[0]["trial_id"])
    with locked(root):
        if state(root, trial_id) != "ok":
            files.write(root, file_of(root, trial_id), whole)


def write_timings(root: Path, name: str, rows: Sequence[Row]) -> None:
    """Writes the rows of one timing, in place of those measured before under the same conditions.

    Those of other conditions (TIMED_UNDER) stay, in a file beside it. A failure does not replace a
    measurement.

    Args:
        root: The store.
        name: Begins that of the file.
        rows: Of one engine, dataset and batch size, under the same conditions.
    """
    whole = table(rows, TIMINGS)
    with locked(root):
        path, before = _timing_file(root / "timings", name, rows[0])
        if rows[0]["status"] == "ok" or "ok" not in before:
            files.write(root, path, whole)


def _timing_file(folder: Path, name: str, row: Row) -> tuple[Path, set[str]]:
    """The file of timings under the row's conditions, existing or not, and its rows' states.

    The first conditions have the plain name; for others it ends with a hash of them.
    """
    key = tuple(row[each] for each in TIMING_KEY)
    # as in stores that are older than the columns of users' code
    said = tuple(row[each] for each in TIMING_KEY if each not in USER_FIELDS or row[each])
    ending = hashlib.sha256(repr(said).encode()).hexdigest()[:8]
    plain, other = folder / f"{name}.parquet", folder / f"{name}-{ending}.parquet"
    for path in (plain, other):
        try:
            columns = [*TIMING_KEY, "status"]
            found = reader.load_file(path, TIMINGS, columns).to_pylist()
        except (DamagedFile, FileNotFoundError):
            found = []
        if all(tuple(one[column] for column in TIMING_KEY) == key for one in found):
            return path, {one["status"] for one in found}
    return other, set()


def file_of(root: Path, trial_id: str) -> Path:
    """The trial's own file, existing or not."""
    return root / "trials" / f"{trial_id}.parquet"


def state(root: Path, trial_id: str) -> str | None:
    """What became of the trial; None if nothing, or if its file was damaged and is set aside.

    Raises:
        StoreError: A file of another kind has the name of the trial's file.
    """
    try:
        rows = reader.load_file(file_of(root, trial_id), TRIALS, outcomes.COLUMNS)
        return outcomes.of(rows).get(trial_id)
    except DamagedFile as damage:
        if damage.whole:
            raise StoreError(
                f"{damage}, and it has the name of a trial's file: move it."
            ) from damage
        set_aside(root, damage)
        return None
    except FileNotFoundError:
        return "ok" if any(trial_id in ids for ids in _parts(root)) else None


def _parts(root: Path) -> Iterator[frozenset[str]]:
    """The trials of each part."""
    for path in reader.parts(root / "trials"):
        status = path.stat()
        yield _ids_of(path, status.st_ino, status.st_mtime_ns)


@cache
def _ids_of(part: Path, _inode: int, _written_at: int) -> frozenset[str]:
    """The trials of a part, read once as long as the file stays the same."""
    try:
        return frozenset(reader.load_file(part, TRIALS, ["trial_id"])["trial_id"].to_pylist())
    except DamagedFile:
        return frozenset()


def set_aside(root: Path, damage: DamagedFile) -> None:
    """Moves the damaged file to the store's folder `damaged`, with a warning.

    A file that can be read stays where it is: somebody may want what is in it.
    """
    if damage.whole:
        reader.warn_of(root, damage)
        return
    folder = root / "damaged"
    target = folder / damage.path.name
    with _write_errors(root), suppress(FileNotFoundError):  # another sweep has done it
        folder.mkdir(exist_ok=True)
        target = files.unused(target)
        shutil.move(damage.path, target)
    _log.warning("%s: set aside as %s; what it held runs again.", damage, target)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Holds the store's lock, under which alone it is written to.

    Raises:
        StoreError: The disk takes no more.
    """
    with _write_errors(root), locks.exclusive(root / files.SCRATCH / "lock"):
        yield


@contextmanager
def _write_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        there = os.path.isdir(root / "trials")  # noqa: PTH112  # pathlib's may raise this error
        kept = " What is finished there is intact." if there else ""
        raise StoreError(
            f"Cannot write results to {root}: {error.strerror or error}.{kept} Mend that or name "
            "another folder with --out, and run the same command again."
        ) from error
