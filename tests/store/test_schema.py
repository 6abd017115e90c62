"""Rows of several schema versions."""

from pathlib import Path

import pandas as pd
from factories import ROOT

from dpbench import store


def test_nulls_of_a_concatenation_are_the_defaults(tmp_path: Path) -> None:
    """Pandas gives rows of an older schema nulls in the columns that they are too old to have."""
    store.create(tmp_path)
    first, second, *_ = sorted((ROOT / "results" / "mnist-quick" / "trials").glob("*.parquet"))
    old = pd.read_parquet(first).drop(columns=["optimizer", "clipping"], errors="ignore")
    new = pd.read_parquet(second).assign(optimizer="adam", clipping="automatic")
    pd.concat([old, new]).to_parquet(tmp_path / "trials" / first.name)
    found = store.read_trials(tmp_path)
    rules = found.set_index("trial_id")[["optimizer", "clipping"]].drop_duplicates()
    assert set(rules.loc[old["trial_id"].unique()].itertuples(index=False, name=None)) == {
        ("sgd", "flat")
    }
    assert set(rules.loc[new["trial_id"].unique()].itertuples(index=False, name=None)) == {
        ("adam", "automatic")
    }
