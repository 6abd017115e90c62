"""What became of each trial of some rows, and which rows are its own where files hold it twice.

The same of timings.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = ("trial_id", "epoch", "epochs", "status")  # that tell what is finished

_log = logging.getLogger(__name__)


def of(rows: pa.Table) -> dict[str, str]:
    """`ok` for each trial whose last epoch is among the rows, or the status of its failure."""
    last = rows.filter(
        pc.or_(pc.not_equal(rows["status"], "ok"), pc.equal(rows["epoch"], rows["epochs"]))
    )
    return dict(zip(last["trial_id"].to_pylist(), last["status"].to_pylist(), strict=True))


def once(rows: pa.Table, tables: Mapping[Path, pa.Table]) -> pa.Table:
    """Of each trial the rows of one file, and of those each epoch once; says what is left out.

    The file is one in which the trial is finished, if there is one, or else the first.

    Args:
        rows: The tables', in their order.
        tables: Of each file.
    """
    if not (rows.num_rows and rows.select(["trial_id", "epoch"]).to_pandas().duplicated().any()):
        return rows
    file = np.repeat(range(len(tables)), [len(table) for table in tables.values()])
    frame = rows.select(COLUMNS).to_pandas().assign(file=file)
    ends = (frame["status"] == "ok") & (frame["epoch"] == frame["epochs"])
    frame["finished"] = ends.groupby([frame["trial_id"], file]).transform("any")
    best = frame.sort_values("finished", ascending=False, kind="stable")
    chosen = frame["trial_id"].map(best.groupby("trial_id")["file"].first())
    kept = (frame["file"] == chosen) & ~frame.duplicated(["trial_id", "epoch", "file"])
    _warn(tables, file[~kept])
    return rows.filter(pa.array(kept))


def timed_once(rows: pa.Table, tables: Mapping[Path, pa.Table], key: Sequence[str]) -> pa.Table:
    """Of each timing the rows of one file, the latest; says what is left out.

    Args:
        rows: The tables', in their order.
        tables: Of each file.
        key: Columns that all rows of a timing share.
    """
    if not len(rows):
        return rows
    file = np.repeat(range(len(tables)), [len(table) for table in tables.values()])
    frame = rows.select([*key, "started_at"]).to_pandas().assign(file=file)
    latest = frame.sort_values(["started_at", "file"], ascending=[False, True], kind="stable")
    chosen = latest.groupby(list(key), dropna=False)["file"].transform("first").sort_index()
    kept = frame["file"] == chosen
    _warn(tables, file[~kept])
    return rows.filter(pa.array(kept))


def _warn(tables: Mapping[Path, pa.Table], left_out: np.ndarray[Any, Any]) -> None:
    """Says of which files rows are left out.

    Args:
        tables: Of each file.
        left_out: For each row of them, the number of its file.
    """
    for path, count in zip(tables, np.bincount(left_out, minlength=len(tables)), strict=True):
        if count:
            _log.warning("%s repeats what is there: %d rows of it are left out.", path, count)
