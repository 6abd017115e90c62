"""Arms of a store as text: a line for each, or all that is known of one."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dpbench import console, strings
from dpbench.analysis import trial_rows
from dpbench.reporting import quantities

_SHORT = {  # a table of 80 columns has no room for the whole names
    "noise_multiplier": "noise",
    "max_grad_norm": "clip",
    "batch_size": "batch",
    "learning_rate": "lr",
    "validation_examples": "held out",
}
_MOST_SEEDS = 12  # characters
_ALWAYS = ("noise_multiplier", "max_grad_norm", "batch_size", "learning_rate", "epochs")


def table(arms: pd.DataFrame) -> str:
    """A line for each arm; what all have in common stands above.

    Args:
        arms: Of `selection.arms`, one or more.
    """
    varied = [name for name in trial_rows.ARM if _varies(arms, name)]
    names = [*_ALWAYS, *(name for name in varied if name not in _ALWAYS)]
    same = ", ".join(
        f"{_SHORT.get(name, name)} "
        + " and ".join(sorted(map(_shown, arms[name].dropna().unique())))
        for name in trial_rows.ARM
        if name not in names and arms[name].notna().any() and not name.endswith("_hash")
    )
    header = [_SHORT.get(name, name) for name in names]
    rows = [[*(_shown(arm[name]) for name in names), *_outcome(arm)] for _, arm in arms.iterrows()]
    above = textwrap.fill(same, console.LINE)
    return f"{above}\n{strings.table([*header, 'epsilon', 'accuracy', 'seeds', 'failed'], rows)}"


def _varies(arms: pd.DataFrame, name: str) -> bool:
    """Whether a column is needed. Baselines have an engine of their own, which tells nothing."""
    if name != "engine":
        return bool(arms[name].nunique() > 1)
    return bool(arms.groupby(arms["noise_multiplier"].isna())[name].nunique().max() > 1)


def _outcome(arm: "pd.Series[object]") -> list[str]:
    accuracy = pd.to_numeric(arm["test_accuracy"])
    seeds = [str(each) for each in arm["seeds"]]
    shown = ",".join(seeds) if len(seeds) <= 3 else f"{seeds[0]}..{seeds[-1]}"
    if len(shown) > _MOST_SEEDS:  # of a private search, whose seeds are drawn from 2**53
        shown = f"{len(seeds)} drawn"
    return [
        _shown(arm["epsilon"]),
        "-" if pd.isna(accuracy) else f"{100 * accuracy:.2f} %",
        shown,
        str(arm["failed"]) if arm["failed"] else "-",
    ]


def _shown(value: object) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:.4g}".replace("e-0", "e-") if isinstance(value, float) else str(value)


def details(arms: pd.DataFrame, trials: pd.DataFrame, root: Path) -> Iterator[str]:
    """Each arm: its settings, and a line for each of its trials.

    Args:
        arms: Of `selection.arms`.
        trials: Rows of the store that the arms are of.
        root: The store.
    """
    for _, arm in arms.iterrows():
        rows = trial_rows.where(trials, {name: arm[name] for name in trial_rows.ARM})
        named = [name for name in trial_rows.ARM if pd.notna(arm[name])]
        yield "\n".join(
            [
                *(f"{name:<20} {_shown(arm[name])}" for name in named),
                *(_trial(each, root) for _, each in rows.groupby("seed", sort=True)),
            ]
        )


def _trial(rows: pd.DataFrame, root: Path) -> str:
    """What became of a trial, and the file that holds it."""
    last = rows.sort_values("epoch", kind="stable").iloc[-1]
    begun = f"seed {last['seed']}: "
    if last["status"] != "ok":
        begun += f"{last['status']} in epoch {last['epoch']}: {strings.one_line(last['reason'])}"
    else:
        begun += f"{100 * last['test_accuracy']:.2f} % after epoch {last['epoch']}"
        if pd.notna(last["epsilon"]):
            begun += f", epsilon {last['epsilon']:.4g} at delta {quantities.short(last['delta'])}"
        if pd.notna(last["train_seconds"]):
            begun += f", {last['train_seconds']:.1f} s"
    started = pd.Timestamp(last["started_at"]).strftime("%Y-%m-%d %H:%M")
    own = root / "trials" / f"{last['trial_id']}.parquet"
    where = own if own.exists() else root / "trials"
    device = last["device_name"] or last["device"]
    return f"  {begun}\n    {device}, {started} UTC\n    {where}"
