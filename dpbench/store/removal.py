"""Removing trials from a store: their rows, and that its sweeps still wait for them."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dpbench.errors import DamagedFile
from dpbench.store import files, history, reader, writer


def drop(root: Path, trial_ids: Collection[str]) -> int:
    """Removes every row of the trials, whichever file holds it; the number of files changed.

    The records of the sweeps say that they were dropped. A sweep that asks for one of them runs it
    again. If it is killed, some of the trials are left: it can be called again.

    Args:
        root: The store.
        trial_ids: Of the trials.

    Raises:
        StoreError: The store cannot be read or written to.
    """
    writer.create(root)
    changed = 0
    with writer.locked(root):
        history.mark_dropped(root, trial_ids)
        for path in reader.parquet_files(root / "trials"):
            try:
                changed += _without(root, path, trial_ids)
            except DamagedFile as damage:  # a user's; `writer.create` has set aside the others
                reader.warn_of(root, damage)
    return changed


def _without(root: Path, path: Path, trial_ids: Collection[str]) -> bool:
    """Whether the file held rows of the trials; it is written without them, or removed."""
    ids = files.read(path, ["trial_id"])
    if "trial_id" not in ids.column_names:
        return False
    ours = pc.is_in(ids["trial_id"], pa.array(sorted(trial_ids), pa.string()))
    if not pc.any(ours).as_py():
        return False
    kept = files.read(path).filter(pc.invert(ours))
    if len(kept):
        files.write(root, path, kept)
    else:
        path.unlink()
    return True
