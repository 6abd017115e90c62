"""A store: a results directory of parquet files, `trials/` and `timings/`.

A trial is a file, which appears whole or not at all; `folding` puts many into one. Reading never
writes: a damaged file is passed over with a warning, unless the caller says what to do with it.
"""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dpbench.errors import BadInput
from dpbench.store import files, locks, outcomes
from dpbench.store.schema import (
    SCHEMA_VERSION,
    SCHEMAS,
    TIMING_KEY,
    TIMINGS,
    TRIALS,
    Row,
    conform,
    failed_timing_row,
    refuse_newer,
    table,
    timing_row,
    trial_row,
)
from dpbench.trial import Trial

__all__ = [  # and what is below
    "SCHEMA_VERSION",
    "TIMINGS",
    "TRIALS",
    "failed_timing_row",
    "timing_row",
    "trial_row",
]

PART = "part-"  # begins the names of files that hold many trials, all of them finished

_log = logging.getLogger(__name__)
_OWN = re.compile(r"(-g\d+)?\.parquet$")  # what follows a trial's id, in its own file's name
_ATTEMPTS = 20  # at reading a folder whose files another process folds meanwhile

T = TypeVar("T")
OnDamage = Callable[[Path, files.Damaged], None]


def create(root: Path) -> None:
    """Makes the store's folders, or mends what a writer that died has left of them.

    Raises:
        BadInput: They cannot be made or written to, or the store holds rows of a newer schema; then
            nothing is written.
    """
    for name in SCHEMAS:
        _refuse_newer(root / name)
    with _cannot_write(root):
        (root / files.SCRATCH).mkdir(parents=True, exist_ok=True)
        with writing(root):
            for name in SCHEMAS:
                files.recover(root, name)
                probe = root / name / ".probe"
                probe.touch()
                probe.unlink()
            files.remove_unfinished(root, list(SCHEMAS))


def write_trial(root: Path, rows: Sequence[Row]) -> None:
    """Writes a trial's rows, in place of those of an earlier try; once finished, it stays.

    Raises:
        BadInput: The rows could not be written; what was there before is intact.
    """
    whole = table(rows, TRIALS)
    trial_id = str(rows[0]["trial_id"])
    with writing(root):
        if state(root, trial_id) != "ok":
            files.write(root, file_of(root, trial_id), whole)


def write_timings(root: Path, name: str, rows: Sequence[Row]) -> None:
    """Writes the rows of one timing, in place of those measured before under the same conditions.

    Those of other conditions (TIMED_UNDER) stay, in a file beside it. A failure takes the place of
    no measurement.

    Args:
        root: The store.
        name: Begins that of the file.
        rows: Of one engine, dataset and batch size, under the same conditions.
    """
    whole = table(rows, TIMINGS)
    with writing(root):
        path, before = _timing_file(root / "timings", name, rows[0])
        if rows[0]["status"] == "ok" or "ok" not in before:
            files.write(root, path, whole)


def _timing_file(folder: Path, name: str, row: Row) -> tuple[Path, set[str]]:
    """The file of timings like the row, there or not, and the states of the rows in it.

    The first conditions have the plain name, and others end it with a hash of them.
    """
    key = tuple(row[each] for each in TIMING_KEY)
    ending = hashlib.sha256(repr(key).encode()).hexdigest()[:8]
    own = re.compile(rf"{re.escape(name)}(-{ending})?(-g\d+)?\.parquet")
    plain_is_taken = False
    for each in _names(folder, name):
        if own.fullmatch(each):
            try:
                found = load_file(folder / each, TIMINGS, [*TIMING_KEY, "status"]).to_pylist()
            except files.Damaged:
                found = []
            if all(tuple(one[column] for column in TIMING_KEY) == key for one in found):
                return folder / each, {one["status"] for one in found}
            plain_is_taken = True
    return folder / f"{name}{f'-{ending}' if plain_is_taken else ''}.parquet", set()


def read_trials(root: Path, on_damage: OnDamage | None = None) -> pd.DataFrame:
    """Every row of `trials`, sorted by what was asked; empty where there is none.

    Args:
        root: The store.
        on_damage: What to do with a damaged file; None passes over it with a warning.

    Raises:
        BadInput: The store holds rows of a newer schema, or cannot be read.
    """
    frame = load(root, "trials", on_damage=on_damage).to_pandas()
    by = [field.name for field in fields(Trial)]
    return frame.sort_values([*by, "epoch"], na_position="first", ignore_index=True)


def read_timings(root: Path, on_damage: OnDamage | None = None) -> pd.DataFrame:
    """Every row of `timings` that holds a measurement; empty where there is none.

    Args:
        root: The store.
        on_damage: What to do with a damaged file; None passes over it with a warning.

    Raises:
        BadInput: The store holds rows of a newer schema, or cannot be read.
    """
    found = load(root, "timings", on_damage=on_damage)
    frame = found.filter(pc.equal(pc.fill_null(found["status"], "ok"), "ok")).to_pandas()
    by = ["device", "batch_size", "engine", "threads", "started_at", "process", "pair"]
    return frame.sort_values(by, ignore_index=True)


def failed_timings(root: Path) -> pd.DataFrame:
    """The rows of `timings` that say why one failed."""
    found = load(root, "timings")
    return found.filter(pc.not_equal(found["status"], "ok")).to_pandas()


def states(root: Path, on_damage: OnDamage | None = None) -> dict[str, str]:
    """What became of each trial: `ok` if its last epoch is there, or the status of its failure."""
    return outcomes.of(load(root, "trials", outcomes.COLUMNS, on_damage=on_damage))


def finished(root: Path) -> set[str]:
    """The ids of the trials whose last epoch is there."""
    return {trial_id for trial_id, state in states(root).items() if state == "ok"}


def state(root: Path, trial_id: str) -> str | None:
    """What became of the trial; None if nothing, or if its file was damaged and is set aside.

    For a writer that holds the lock, so that no file is folded meanwhile.
    """
    try:
        rows = load_file(file_of(root, trial_id), TRIALS, outcomes.COLUMNS)
        return outcomes.of(rows).get(trial_id)
    except files.Damaged as damage:
        if damage.whole:
            raise BadInput(f"{damage}, and it has the name of a trial's file: move it.") from damage
        set_aside(root, damage)
        return None
    except FileNotFoundError:
        folder = root / "trials"
        known = (ids_of(folder / name) for name in _names(folder, PART))
        return "ok" if any(trial_id in ids for ids in known) else None


def set_aside(root: Path, damage: files.Damaged) -> None:
    """Moves the damaged file to the store's folder `damaged`, and says so.

    A whole file stays where it is: what is in it may be wanted.
    """
    if damage.whole:
        _pass_over(root, damage)
        return
    folder = root / "damaged"
    target = folder / damage.path.name
    with _cannot_write(root), suppress(FileNotFoundError):  # another sweep has done it
        folder.mkdir(exist_ok=True)
        target = files.unused(target)
        shutil.move(damage.path, target)
    _log.warning("%s: set aside as %s; what it held runs again.", damage, target)


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Holds the store's lock, under which alone it is written to.

    Raises:
        BadInput: The disk takes no more.
    """
    with _cannot_write(root), locks.exclusive(root / files.SCRATCH / "lock"):
        yield


def load(
    root: Path,
    name: str,
    columns: Sequence[str] | None = None,
    on_damage: OnDamage | None = None,
) -> pa.Table:
    """The rows of `trials` or `timings` in the schema's columns, or only some of them.

    Where files hold a trial or a timing twice, as a user's copy does, one of them is left out with
    a warning.
    So is, with one warning for all, a column that this dpbench does not know.
    """
    folder = root / name
    unknown: set[str] = set()

    def one(path: Path) -> pa.Table | files.Damaged:
        try:
            found = _read(path, columns)
            unknown.update(set(found.column_names) - set(SCHEMAS[name].names))
            return _conformed(path, found, SCHEMAS[name], columns)
        except files.Damaged as damage:
            return damage

    whole: dict[Path, pa.Table] = {}
    for path, found in _of_each(folder, one).items():
        if isinstance(found, files.Damaged):
            (on_damage or _pass_over)(root, found)
        else:
            whole[path] = found
    if unknown:
        _log.warning(
            "%s: files of it have columns that dpbench does not know, left out here and kept "
            "there: %s",
            folder,
            ", ".join(sorted(unknown)),
        )
    empty = SCHEMAS[name].empty_table()
    rows = pa.concat_tables(
        [empty.select(columns) if columns else empty, *whole.values()], promote_options="default"
    )
    if set(outcomes.COLUMNS) <= set(rows.schema.names):
        return outcomes.once(rows, whole)
    if {*TIMING_KEY, "started_at"} <= set(rows.schema.names):
        return outcomes.timed_once(rows, whole, TIMING_KEY)
    return rows


def _refuse_newer(folder: Path) -> None:
    """Raises BadInput where a file of the folder, if there is one, is of a newer schema."""

    def version(path: Path) -> int:
        try:
            return files.greatest(path, "schema_version")
        except files.Damaged:
            return 0

    if _is_folder(folder):
        for path, found in _of_each(folder, version).items():
            try:
                refuse_newer(found)
            except BadInput as error:
                raise BadInput(f"{path} {error}") from error


def _of_each(folder: Path, one: Callable[[Path], T]) -> dict[Path, T]:
    """What the function makes of each of the folder's files, all listed at one instant.

    Raises:
        BadInput: The folder or a file of it cannot be read.
    """
    try:
        for _ in range(_ATTEMPTS):
            paths = parquet_files(folder)
            with suppress(FileNotFoundError), ThreadPoolExecutor(pa.cpu_count()) as threads:
                return dict(zip(paths, threads.map(one, paths), strict=True))
            # it has been folded since it was listed
    except OSError as error:
        raise BadInput(f"Cannot read {folder}: {error.strerror}.") from error
    raise BadInput(f"{folder} changes too fast to be read; try again.")


def parquet_files(folder: Path) -> list[Path]:
    """The folder's parquet files, none where there is no such folder: copies after their originals.

    Raises:
        OSError: It cannot be listed, which pathlib's `glob` keeps to itself.
    """
    try:
        names = sorted(_names(folder, ""), key=lambda it: (not it.startswith(PART), len(it), it))
    except FileNotFoundError:
        return []
    return [folder / name for name in names]


def load_file(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The file's rows in the schema's columns, or in some of them.

    Raises:
        BadInput: Its rows are of a newer schema, or there is too little memory for them.
        Damaged: It is not whole, or of another kind.
    """
    return _conformed(path, _read(path, columns), schema, columns)


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        return files.read(path, columns and [*{"schema_version", *columns}])
    except MemoryError as error:
        raise BadInput(f"Cannot read {path}: there is too little memory for it.") from error
    except (ValueError, pa.ArrowNotImplementedError) as error:  # arrow's others are ValueErrors
        raise files.Damaged(path, str(error).partition("\n")[0]) from error


def _conformed(
    path: Path, found: pa.Table, schema: pa.Schema, columns: Sequence[str] | None
) -> pa.Table:
    """The file's rows as `schema.conform` gives them; raises what `load_file` raises."""
    try:
        return conform(found, schema, columns)
    except BadInput as error:
        raise BadInput(f"{path} {error}") from error
    except KeyError as error:
        raise files.Damaged(path, f"it has no column {error.args[0]}", whole=True) from error
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise files.Damaged(path, str(error).partition("\n")[0]) from error


def file_of(root: Path, trial_id: str) -> Path:
    """The trial's own file, there or not."""
    folder = root / "trials"
    # folding gives it another name, so that no name stands for a file before and after it
    own = (name for name in _names(folder, trial_id) if _OWN.match(name, len(trial_id)))
    return folder / next(own, f"{trial_id}.parquet")


def _names(folder: Path, start: str) -> Iterator[str]:
    """Of the folder's files that begin so; quick, since it is asked for each trial."""
    for name in os.listdir(folder):  # noqa: PTH208  # pathlib takes ten times as long
        if name.startswith(start) and name.endswith(".parquet"):
            yield name


def ids_of(part: Path) -> frozenset[str]:
    """The trials of a part, which never changes but in name."""
    status = part.stat()
    key = status.st_ino, status.st_mtime_ns
    if key not in _ids_of_parts:
        try:
            ids = load_file(part, TRIALS, ["trial_id"])["trial_id"].to_pylist()
        except files.Damaged:
            ids = []
        _ids_of_parts[key] = frozenset(ids)
    return _ids_of_parts[key]


_ids_of_parts: dict[tuple[int, int], frozenset[str]] = {}  # by inode and time of writing


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # pathlib's may raise what its caller is handling


def _pass_over(root: Path, damage: files.Damaged) -> None:
    if damage.whole:
        _log.warning("%s: its rows are left out.", damage)
        return
    _log.warning(
        "%s: its rows are left out; the next sweep into %s sets it aside and runs them again.",
        damage,
        root,
    )


@contextmanager
def _cannot_write(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = " What is finished there is intact." if _is_folder(root / "trials") else ""
        raise BadInput(
            f"Cannot write results to {root}: {error.strerror or error}.{kept} Mend that or name "
            "another folder with --out, and run the same command again."
        ) from error
