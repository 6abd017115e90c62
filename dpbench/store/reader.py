"""A store's rows. Reading never writes: a damaged file is skipped with a warning."""

import itertools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from dpbench.errors import DamagedFile, StoreError
from dpbench.store import files, outcomes
from dpbench.store.schema import SCHEMAS, TIMING_KEY, conform
from dpbench.trial import Trial

if TYPE_CHECKING:  # workers write rows and read none
    import pandas as pd

_log = logging.getLogger(__name__)
_ATTEMPTS = 20  # at reading a folder while files are moved or compacted

T = TypeVar("T")
OnDamage = Callable[[Path, DamagedFile], None]


def read_trials(root: Path, on_damage: OnDamage | None = None) -> "pd.DataFrame":
    """Every row of `trials`, sorted by the trials' fields; empty if there is none.

    Args:
        root: The store.
        on_damage: What to do with a damaged file; None skips it with a warning.

    Raises:
        StoreError: The store holds rows of a newer schema, or cannot be read.
    """
    frame: pd.DataFrame = load(root, "trials", on_damage=on_damage).to_pandas()
    by = [field.name for field in fields(Trial)]
    return frame.sort_values([*by, "epoch"], na_position="first", ignore_index=True)


def read_timings(root: Path, on_damage: OnDamage | None = None) -> "pd.DataFrame":
    """Every row of `timings` that holds a measurement; empty if there is none.

    Args:
        root: The store.
        on_damage: What to do with a damaged file; None skips it with a warning.

    Raises:
        StoreError: The store holds rows of a newer schema, or cannot be read.
    """
    found = load(root, "timings", on_damage=on_damage)
    frame = found.filter(pc.equal(pc.fill_null(found["status"], "ok"), "ok")).to_pandas()
    by = ["device", "batch_size", "engine", "threads", "started_at", "process", "pair"]
    return frame.sort_values(by, ignore_index=True, kind="stable")


def failed_timings(root: Path) -> "pd.DataFrame":
    """The rows of `timings` that say why one failed."""
    found = load(root, "timings")
    return found.filter(pc.not_equal(found["status"], "ok")).to_pandas()


def states(root: Path, on_damage: OnDamage | None = None) -> dict[str, str]:
    """What became of each trial: `ok` if its last epoch is there, or the status of its failure."""
    return outcomes.of(load(root, "trials", outcomes.COLUMNS, on_damage=on_damage))


def finished(root: Path) -> set[str]:
    """The ids of the trials whose last epoch is there."""
    return {trial_id for trial_id, state in states(root).items() if state == "ok"}


def load(
    root: Path,
    name: str,
    columns: Sequence[str] | None = None,
    on_damage: OnDamage | None = None,
) -> pa.Table:
    """The rows of `trials` or `timings` in the schema's columns, or only some of them.

    If files hold a trial or a timing twice, as a user's copy does, one of them is left out with a
    warning. So is, with one warning for all files, a column that this dpbench does not know.
    """
    folder = root / name
    unknown: set[str] = set()

    def one(path: Path) -> pa.Table:
        found = _read(path, columns)
        unknown.update(set(found.column_names) - set(SCHEMAS[name].names))
        return _conformed(path, found, SCHEMAS[name], columns)

    whole: dict[Path, pa.Table] = {}
    for path, found in of_each(folder, one).items():
        if isinstance(found, DamagedFile):
            (on_damage or warn_of)(root, found)
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


def of_each(folder: Path, one: Callable[[Path], T]) -> dict[Path, T | DamagedFile]:
    """What the function returns for each of the folder's files, or how the file is damaged.

    Raises:
        StoreError: The folder or a file of it cannot be read.
    """

    def result(path: Path) -> T | DamagedFile:
        try:
            return one(path)
        except DamagedFile as damage:
            return damage

    try:
        for _ in range(_ATTEMPTS):
            paths = parquet_files(folder)
            with suppress(FileNotFoundError), ThreadPoolExecutor(pa.cpu_count()) as threads:
                return dict(zip(paths, threads.map(result, paths), strict=True))
    except OSError as error:
        raise StoreError(f"Cannot read {folder}: {error.strerror}.") from error
    raise StoreError(f"{folder} changes too fast to be read; try again.")


def parquet_files(folder: Path) -> list[Path]:
    """The folder's parquet files, parts first, copies after their originals; or none.

    Raises:
        OSError: The folder cannot be listed. (pathlib's `glob` would hide that.)
    """
    try:
        found = [path for path in folder.iterdir() if path.name.endswith(".parquet")]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: (not is_part(path), len(path.name), path.name))


def parts(folder: Path) -> list[Path]:
    """The folder's files of many finished trials, which are numbered from 0."""
    numbered = map(partial(part, folder), itertools.count())
    return list(itertools.takewhile(Path.exists, numbered))


def part(folder: Path, number: int) -> Path:
    """The file of many trials of that number, existing or not."""
    return folder / f"part-{number}.parquet"


def is_part(path: Path) -> bool:
    """Whether the file holds many trials."""
    return path.name.startswith("part-")


def load_file(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The file's rows in the schema's columns, or in some of them.

    Raises:
        StoreError: Its rows are of a newer schema, or there is too little memory for them.
        DamagedFile: It is not whole, or of another kind.
    """
    return _conformed(path, _read(path, columns), schema, columns)


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        return files.read(path, columns and [*{"schema_version", *columns}])
    except MemoryError as error:
        raise StoreError(f"Cannot read {path}: there is too little memory for it.") from error
    except (ValueError, pa.ArrowNotImplementedError) as error:  # arrow's others are ValueErrors
        raise DamagedFile(path, str(error).partition("\n")[0]) from error


def _conformed(
    path: Path, found: pa.Table, schema: pa.Schema, columns: Sequence[str] | None
) -> pa.Table:
    """The file's rows as `schema.conform` gives them; raises what `load_file` raises."""
    try:
        return conform(found, schema, columns)
    except StoreError as error:
        raise StoreError(f"{path} {error}") from error
    except KeyError as error:
        raise DamagedFile(path, f"it has no column {error.args[0]}", whole=True) from error
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise DamagedFile(path, str(error).partition("\n")[0]) from error


def warn_of(root: Path, damage: DamagedFile) -> None:
    """Warns that the file's rows are left out."""
    if damage.whole:
        _log.warning("%s: its rows are left out.", damage)
        return
    _log.warning(
        "%s: its rows are left out; the next sweep into %s sets it aside and runs them again.",
        damage,
        root,
    )
