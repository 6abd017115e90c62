"""Frames -> a page's tables: texts in aligned columns, and the same rows as CSV."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from dpbench.analysis import arm_means, trial_rows
from dpbench.analysis.answers import Best
from dpbench.observations import Environment
from dpbench.reporting import quantities


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its name, and how its cells are laid out."""

    name: str
    kind: Literal["number", "word", "prose"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: Of its download.
        title: Above it.
        same: What all rows have in common; no column shows it.
        columns: Of the rows.
        rows: Texts, as many as there are columns.
        csv: The rows with all digits and all columns.
        empty: What to say where there is no row.
    """

    name: str
    title: str
    same: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    csv: str
    empty: str


_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a formula begins with, in one program or another
_PROSE = {"reason"}

_NEIGHBOURS = {"poisson": "add or remove", "shuffle": "zero out"}  # of a private arm's epsilon

# Columns of a setting, and their formats
_SETTING = {
    "noise_multiplier": "g",
    "max_grad_norm": "g",
    "clipping": "",
    "batch_size": "d",
    "optimizer": "",
    "learning_rate": "g",
    "epochs": "d",
    "engine": "",
    "sampling": "",
    "momentum": "g",
    "model": "",
    "dataset": "",
    "delta": "short",
    "validation_examples": "d",
}
_ABOVE_ONE_ROW = ("model", "clipping", "optimizer")  # or a table of one row is wider than paper


def arms_table(trials: pd.DataFrame) -> Table:
    """Every arm that has finished: its last epoch, over its seeds; the most accurate first."""
    return _arms("arms", "Every arm", trials, empty="No trial has finished yet.")


def sorted_arms(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of `arms_table`: arms that have finished, the most accurate first."""
    arms = arm_means.over_seeds(trial_rows.final(trials))
    return arms.sort_values("test_accuracy", ascending=False, kind="stable").reset_index(drop=True)


def arm_of(arms: pd.DataFrame, dataset: str, best: Best) -> "pd.Series[Any] | None":
    """The answer's row, which may have more epochs; None where it has none.

    Args:
        arms: Of `sorted_arms`.
        dataset: Of the answer.
        best: Of the answer.
    """
    chosen = best.setting
    same = (arms["dataset"] == dataset) & (arms["delta"] == best.delta)
    for name in trial_rows.ARM:
        if name != "epochs" and hasattr(chosen, name):
            same &= arms[name] == getattr(chosen, name)
    epochs = arms["epochs"].where(same & (arms["epochs"] >= chosen.epochs)).dropna()
    return None if epochs.empty else arms.loc[epochs.idxmin()]


def row_id(arm: "pd.Series[Any]") -> str:
    """Of a row of `sorted_arms` in the table of arms."""
    return f"arms-{arm.name + 1}"


def confirmations_table(confirmations: pd.DataFrame) -> Table:
    """The arms that were chosen, again, on seeds that had no part in the choice."""
    title = "Confirmed on fresh seeds"
    empty = "No setting was run again on fresh seeds (--confirm N)."
    return _arms("confirmations", title, confirmations, empty=empty)


def _arms(name: str, title: str, trials: pd.DataFrame, *, empty: str) -> Table:
    arms = sorted_arms(trials)
    shown = arms.assign(
        accuracy=100 * arms["test_accuracy"],
        interval=100 * (arms["high"] - arms["test_accuracy"]),
        validation=100 * arms["validation_accuracy"],
        neighbours=arms["sampling"].map(_NEIGHBOURS).where(arms["epsilon"].notna()),
    ).rename(columns={"accuracy": "accuracy %", "interval": "± points", "validation": "valid. %"})
    formats = {
        "accuracy %": ".2f",
        "± points": ".2f",
        "epsilon": ".3f",
        "neighbours": "",
        **_SETTING,
        "seeds": "d",
        "valid. %": ".2f",
        "accountant": "",
    }
    return _table(
        name,
        title,
        shown=shown,
        formats=formats,
        common=("neighbours", *_SETTING) if len(arms) > 1 else _ABOVE_ONE_ROW,
        rows=arms,
        empty=empty,
    )


def failures_table(trials: pd.DataFrame) -> Table:
    """Every trial that failed, with its reason."""
    failed = trial_rows.failures(trials)
    formats = {"status": "", "reason": "", **_SETTING, "seed": "d", "epoch": "d"}
    return _table(
        "failures",
        "Failures",
        shown=failed,
        formats=formats,
        common=_SETTING if len(failed) > 1 else _ABOVE_ONE_ROW,
        rows=failed,
        empty="No trial has failed.",
    )


def provenance_table(trials: pd.DataFrame, timings: pd.DataFrame) -> Table:
    """The distinct machines and versions, with how many trials and timings each has measured."""
    where = [name for name in Environment.__dataclass_fields__ if name != "started_at"]
    first = trials.drop_duplicates("trial_id").assign(measured="trials")
    every = pd.concat([first, timings.assign(measured="timed pairs")])
    counted = (
        every.groupby(["measured", *where], dropna=False, sort=True)
        .agg(count=("started_at", "size"), first=("started_at", "min"), last=("started_at", "max"))
        .reset_index()
    )
    for name in ("first", "last"):
        counted[name] = [
            "" if pd.isna(time) else f"{time:%Y-%m-%d %H:%M}" for time in counted[name]
        ]
    numbers = {"threads", "physical_batch_size", "workers_beside", "stacked_trials"}
    formats = {"measured": "", "implementation": "", "count": "d", "first": "", "last": ""}
    formats |= {name: "d" if name in numbers else "" for name in where}
    return _table(
        "provenance",
        "Provenance",
        shown=counted,
        formats=formats,
        common=[name for name in where if name != "implementation"],
        rows=counted,
        empty="Nothing was measured.",
    )


def _table(
    name: str,
    title: str,
    *,
    shown: pd.DataFrame,
    formats: Mapping[str, str],
    common: Collection[str],
    rows: pd.DataFrame,
    empty: str,
) -> Table:
    """The shown rows in their formats; of the common columns, those of one value go before it."""
    alike = [name for name in common if _filled(shown, name).nunique() < 2]
    shared = {name: _texts(_filled(shown, name).head(1), formats[name]) for name in alike}
    same = ", ".join(f"{name} {text}" for name, texts in shared.items() for text in texts)
    formats = {name: form for name, form in formats.items() if name not in alike}
    columns = [_texts(shown[column], form) for column, form in formats.items()]
    return Table(
        name=name,
        title=title,
        same=f"In every row: {same}." if same else "",
        columns=[
            Column(name=column, kind="number" if form else "prose" if column in _PROSE else "word")
            for column, form in formats.items()
        ],
        rows=list(zip(*columns, strict=True)),
        csv=_csv(rows),
        empty=empty,
    )


def _filled(shown: pd.DataFrame, name: str) -> "pd.Series[Any]":
    """The column's values; no validation_examples are 0, and what does not apply is left out."""
    return shown[name].fillna(0) if name == "validation_examples" else shown[name].dropna()


def _csv(rows: pd.DataFrame) -> str:
    """As CSV; a text that a spreadsheet would run as a formula begins with an apostrophe."""
    texts = rows.select_dtypes(include=["object", "string"]).columns
    safe = {
        name: rows[name].map(
            lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
        )
        for name in texts
    }
    text: str = rows.assign(**safe).to_csv(index=False)
    return text


def _texts(values: "pd.Series[float]", form: str) -> list[str]:
    """Each value in the format, whole numbers as `d` even where the column has gaps; no nulls."""
    return [
        ""
        if pd.isna(value)
        else quantities.short(value)
        if form == "short"
        else format(int(value) if form == "d" else value, form)
        for value in values
    ]
