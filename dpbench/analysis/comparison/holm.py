"""Several tests at once."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dpbench.analysis.statistics import CONFIDENCE


def holm(p_values: "pd.Series[float]", families: "Sequence[pd.Series[Any]]") -> "pd.Series[bool]":
    """Which hypotheses fall, when a family has a true one fall with probability of 2.5 % at most.

    The smallest p-value of m falls at 2.5 % / m, the next at 2.5 % / (m - 1), and so on up to the
    first that does not (Holm 1979).

    Args:
        p_values: NaN where there is no test.
        families: Columns that tell families apart; none where all are of one.
    """
    ordered = p_values.dropna().sort_values(kind="stable")
    groups = [family[ordered.index] for family in families] or [pd.Series(0, ordered.index)]
    by_family = ordered.groupby(groups)
    left = by_family.transform("size") - by_family.cumcount()
    holds = ordered <= (1 - CONFIDENCE) / 2 / left
    fallen = holds.astype(int).groupby(groups).cummin().astype(bool)
    return fallen.reindex(p_values.index, fill_value=False)
