"""What became of each trial of some rows, and which rows are its own where files hold it twice."""

import logging
from collections.abc import Mapping
from pathlib import Path

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
    if not rows.select(["trial_id", "epoch"]).to_pandas().duplicated().any():
        return rows
    file = np.repeat(range(len(tables)), [len(table) for table in tables.values()])
    frame = rows.select(COLUMNS).to_pandas().assign(file=file)
    ends = (frame["status"] == "ok") & (frame["epoch"] == frame["epochs"])
    frame["finished"] = ends.groupby([frame["trial_id"], file]).transform("any")
    best = frame.sort_values("finished", ascending=False, kind="stable")
    chosen = frame["trial_id"].map(best.groupby("trial_id")["file"].first())
    kept = (frame["file"] == chosen) & ~frame.duplicated(["trial_id", "epoch", "file"])
    for path, count in zip(tables, np.bincount(file[~kept], minlength=len(tables)), strict=True):
        if count:
            _log.warning("%s repeats what is there: %d rows of it are left out.", path, count)
    return rows.filter(pa.array(kept))
