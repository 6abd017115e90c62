"""Of several versions of a user's model, the latest is reported."""

from typing import Any

import pandas as pd
from factories import frame, make_trial

from dpbench.analysis import user_versions


def row(model: str, version: str | None, day: int, **changed: Any) -> pd.DataFrame:
    trial = make_trial(model=model, model_hash=version, **changed)
    rows = frame((trial, 1, 0.5, 2.0))
    rows["started_at"] = pd.Timestamp(2026, 1, day, tz="UTC")
    return rows


def kept(*rows: pd.DataFrame, own: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    found = user_versions.current(pd.concat(rows, ignore_index=True), own)
    return list(zip(found["model"], found["model_hash"].fillna("-"), strict=True))


def test_trials_of_an_earlier_source_are_left_out_whatever_their_arguments() -> None:
    old, new = row("mine.py:make(width=1)", "a", 1), row("mine.py:make(width=2)", "b", 2)
    other, built_in = row("mine.py:other", "a", 1), row("mlp", None, 1)
    assert kept(old, new, other, built_in) == [
        *(("mine.py:make(width=2)", "b"), ("mine.py:other", "a"), ("mlp", "-"))
    ]
    assert user_versions.left_out(old).startswith("1 trial was run with earlier sources")


def test_a_sweep_of_an_old_source_reports_that() -> None:
    old, new = row("mine.py:make", "a", 1), row("mine.py:make", "b", 2)
    assert kept(old, new, own=(old["trial_id"].iloc[0],)) == [("mine.py:make", "a")]


def test_stores_without_users_code_are_as_they_were() -> None:
    rows = frame((make_trial(), 1, 0.5, 2.0), (make_trial(seed=1), 1, 0.5, 2.0))
    assert user_versions.current(rows) is rows
