"""What the store knows of earlier versions of the user's models and data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpbench import store, user_code
from dpbench.trial import USER_VERSIONS, Trial


def notices(trials: Sequence[Trial], out: Path) -> list[str]:
    """A sentence for each of the trials' models and datasets that has changed since it was run.

    None once a trial of the changed one has run.
    """
    if not any(trial.model_hash or trial.data_hash or trial.loss_hash for trial in trials):
        return []
    columns = [*(name for pair in USER_VERSIONS for name in pair), "started_at"]
    rows = store.load(out, "trials", columns, on_damage=lambda *_: None).to_pylist()
    found: dict[str, None] = {}
    for name, field in USER_VERSIONS:
        known: dict[str, dict[str, Any]] = {}
        for row in rows:
            if row[name] is not None and row[field] is not None:
                dates = known.setdefault(_function(row[name]), {})
                dates[row[field]] = max(row["started_at"], dates.get(row[field], row["started_at"]))
        for trial in trials:
            value, digest = getattr(trial, name), getattr(trial, field)
            if value is None or not user_code.is_reference(value):
                continue
            dates = known.get(_function(value), {})
            if dates and digest not in dates:
                what = "The examples" if name == "dataset" else "The source"
                verb = "have" if name == "dataset" else "has"
                since = max(dates.values()).date()
                found[
                    f"{what} of {_function(value)} {verb} changed since the trials of {since}: its "
                    "trials run again."
                ] = None
    return list(found)


def _function(name: str) -> str:
    """The name without arguments."""
    return name.split("(", maxsplit=1)[0]
