"""Trials of one version of the user's code and data: a name alone does not tell them apart."""

from collections.abc import Collection

import pandas as pd

from dpbench.trial import USER_VERSIONS


def current(trials: pd.DataFrame, own: Collection[str] = ()) -> pd.DataFrame:
    """The rows without those of earlier sources of a model or loss, or of earlier data.

    Args:
        trials: Of any status.
        own: Ids of trials whose versions are the current ones, however old their rows are.
    """
    for name, field in USER_VERSIONS:
        if trials[field].isna().all():
            continue
        function = trials[name].str.replace(r"\(.*", "", regex=True)  # without arguments
        order = pd.DataFrame({"own": trials["trial_id"].isin(set(own)), "at": trials["started_at"]})
        order = order.assign(function=function, version=trials[field]).dropna(subset="version")
        latest = (
            order.sort_values(["own", "at"], kind="stable").groupby("function")["version"].last()
        )
        trials = trials[trials[field].isna() | (trials[field] == function.map(latest))]
    return trials


def left_out(earlier: pd.DataFrame) -> str:
    """A sentence on the trials that `current` has left out."""
    count = earlier["trial_id"].nunique()
    trials = "trial was" if count == 1 else "trials were"
    return (
        f"{count:,} {trials} run with earlier sources or data of the same name: the answers leave "
        "them out, and they stay in the store."
    )
