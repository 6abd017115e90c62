"""Offline compaction: files of one trial each -> files of many.

For stores of thousands of trials, whose files take seconds to read. Nothing else may read or write
the store meanwhile. If it is killed, no row is lost: dpbench reads each row once, and the next
compaction removes the files whose rows a part holds.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dpbench.errors import DamagedFile
from dpbench.store import files, outcomes, reader, writer
from dpbench.store.schema import TRIALS

TRIALS_A_FILE = 500


def compact(root: Path) -> int:
    """Moves the store's finished trials into files of many; returns the number of files removed.

    A trial that failed keeps its own file, to be replaced when it is tried again. So does a
    user's copy, and a file with columns that dpbench does not know.

    Raises:
        StoreError: The store cannot be written to.
    """
    writer.create(root)
    folder, removed = root / "trials", 0
    with writer.locked(root):
        parts = reader.parts(folder)
        tables = [reader.load_file(path, TRIALS) for path in parts]
        held = pa.concat_tables([TRIALS.empty_table(), *tables])
        known = set(held["trial_id"].to_pylist())
        new: dict[Path, pa.Table] = {}
        for path, rows in _finished(folder):
            if path.stem not in known:
                new[path] = rows
            elif rows.equals(held.filter(pc.equal(held["trial_id"], path.stem))):
                path.unlink()
                removed += 1
        paths = list(new)
        for start in range(0, len(paths), TRIALS_A_FILE):
            chunk = paths[start : start + TRIALS_A_FILE]
            target = reader.part(folder, len(reader.parts(folder)))
            files.write(root, target, pa.concat_tables(map(new.pop, chunk)))
            for path in chunk:
                path.unlink()
            removed += len(chunk)
    return removed


def _finished(folder: Path) -> Iterator[tuple[Path, pa.Table]]:
    """The files that hold one finished trial under its own name, with their rows."""
    for path in reader.parquet_files(folder):
        if reader.is_part(path):
            continue
        try:
            if files.column_names(path) != TRIALS.names:
                continue
            rows = reader.load_file(path, TRIALS)
        except DamagedFile:  # a user's; `writer.create` has set aside the others
            continue
        if outcomes.of(rows) == {path.stem: "ok"}:
            yield path, rows
