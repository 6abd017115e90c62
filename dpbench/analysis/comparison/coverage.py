"""What of BEFORE there was to check, what of it AFTER lets us check, and what came of each check.

RULES says what counts as checked.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from dpbench.analysis import trial_rows
from dpbench.analysis.comparison import changes
from dpbench.analysis.comparison.differences import TIMED
from dpbench.analysis.trial_rows import ARM

RULES = """What counts as checked, out of what BEFORE holds:
- an arm (trials that share everything but the seed): where AFTER has an end, good or bad, of each
  of its seeds that BEFORE has a test accuracy of. An arm that lacks some of these seeds is compared
  over the others, and counts as checked in part, which is not enough. Arms that failed on both
  sides, and trials that only AFTER has, do not count;
- a timing: where AFTER has one of the same engine, model, batch size, dataset, physical
  batch size, device, threads and processor or GPU, by its name in the store;
- an epsilon: where the same arm finished in AFTER, with whatever seeds.
What is not checked is reported as missing, with the reason, and fails unless --allow-missing is
given. Without anything that can be held against each other, there is nothing to compare."""

MOST_SEEDS = 8  # that are named, of those that an arm lacks

Kind = Literal["arm", "engine", "timing", "epsilon"]
KINDS: tuple[Kind, ...] = ("arm", "timing", "epsilon")  # that are counted: each is due on its own

_Differing = tuple[pd.DataFrame, changes.Words]  # rows with `regression`, and what to say of one


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something of BEFORE that was to be held against AFTER.

    Attributes:
        kind: What it is; `engine` is the mean over an engine's arms.
        key: Its settings: values of ARM, of TIMED, or of dataset and engine.
        label: Its settings in a few words.
        missing: Why it could not be checked, or not in full; None where it was checked.
        in_part: Whether some of its seeds were checked although others are missing.
        regressions: What got worse, in words.
    """

    kind: Kind
    key: tuple[Any, ...]
    label: str
    missing: str | None
    in_part: bool = False
    regressions: tuple[str, ...]


def arms(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm of BEFORE that is to be checked.

    Args:
        trials: Rows of `differences.trials`.

    Returns:
        The columns of the arm; `missing`, why it was not checked, or None; and `in_part`.
    """
    was, now = trials["status_before"], trials["status_after"]
    due = trials[(was == "ok") | ((was != "missing") & (now == "ok"))]
    if due.empty:
        return pd.DataFrame(columns=[*ARM, "missing", "in_part"])
    frame = due.groupby(ARM, dropna=False, sort=False).size().rename("due").reset_index()
    gone = due[due["status_after"] == "missing"]
    lost: dict[tuple[Any, ...], list[int]] = {}
    for row in gone.to_dict("records"):
        lost.setdefault(_key(row, ARM), []).append(row["seed"])
    counts = frame.pop("due")
    lacks = [lost.get(_key(row, ARM), []) for row in frame.to_dict("records")]
    words = [_lost_seeds(seeds, count) for seeds, count in zip(lacks, counts, strict=True)]
    part = [0 < len(seeds) < count for seeds, count in zip(lacks, counts, strict=True)]
    return frame.assign(missing=pd.Series(words, dtype=object), in_part=part)


def _lost_seeds(lost: Sequence[int], due: int) -> str | None:
    if not lost:
        return None
    named = ", ".join(map(str, sorted(lost)[:MOST_SEEDS]))
    named += ", ..." if len(lost) > MOST_SEEDS else ""
    if len(lost) < due:
        return f"AFTER lacks {len(lost)} of its {due} seeds ({named})"
    return f"AFTER has none of its seeds ({named})"


def timings(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per timing of BEFORE.

    Args:
        before: Rows of timings.
        after: As before.

    Returns:
        The columns TIMED; `missing`, why it was not checked, or None.
    """
    old, new = (side[TIMED].drop_duplicates().reset_index(drop=True) for side in (before, after))
    there = {_key(row, TIMED) for row in new.to_dict("records")}
    return old.assign(
        missing=pd.Series(
            [
                None if _key(row, TIMED) in there else _unlike(row, new)
                for row in old.to_dict("records")
            ],
            dtype=object,
        )
    )


def _unlike(timing: dict[Hashable, Any], others: pd.DataFrame) -> str:
    """What differs between the timing and the most similar one of its engine and batch size."""
    same = (others["engine"] == timing["engine"]) & (others["batch_size"] == timing["batch_size"])
    if not same.any():
        return "AFTER has no such timing"
    found = [
        [name for name in TIMED if not _equal(timing[name], other[name])]
        for other in others[same].to_dict("records")
    ]
    nearest = min(range(len(found)), key=lambda index: len(found[index]))
    there = others[same].iloc[nearest]
    return "; ".join(
        f"other {name}: {_value(timing[name])} before, {_value(there[name])} after"
        for name in found[nearest]
    )


def epsilons(before: pd.DataFrame, epsilon: pd.DataFrame) -> pd.DataFrame:
    """One row per arm of BEFORE that has spent an epsilon.

    Args:
        before: Rows of trials.
        epsilon: Rows of `differences.epsilon`.

    Returns:
        The columns of the arm; `missing`, why it was not checked, or None.
    """
    if before.empty:
        return pd.DataFrame(columns=[*ARM, "missing"])
    spent = trial_rows.private(trial_rows.final(before)).dropna(subset="epsilon")
    due = spent[ARM].drop_duplicates().reset_index(drop=True)
    there = {_key(row, ARM) for row in epsilon.to_dict("records")}
    missing = [
        None if _key(row, ARM) in there else "AFTER has no finished trial of it"
        for row in due.to_dict("records")
    ]
    return due.assign(missing=pd.Series(missing, dtype=object))


def checks(
    *,
    trials: pd.DataFrame,
    accuracy: pd.DataFrame,
    overhead: pd.DataFrame,
    epsilon: pd.DataFrame,
    loss: pd.DataFrame,
    arms: pd.DataFrame,
    timings: pd.DataFrame,
    epsilons: pd.DataFrame,
) -> Iterator[Check]:
    """Every check, with what came of it: the arms, their engines' means, timings, epsilons.

    Args:
        trials: Rows of `differences.trials`; so are the next three of its other functions.
        accuracy: Of arms and engines.
        overhead: Of timings.
        epsilon: Of arms.
        loss: Rows of `losses.loss`.
        arms: Rows of the function of that name, with a column `label`; so are the next two.
        timings: Of timings.
        epsilons: Of epsilons.
    """
    one = accuracy["arms"] == 1
    engines = accuracy[~one].assign(missing=None)
    kinds: tuple[tuple[Kind, list[str], pd.DataFrame, list[_Differing]], ...] = (
        (
            "arm",
            ARM,
            arms,
            [(trials, changes.failed), (accuracy[one], changes.fell), (loss, changes.rose)],
        ),
        ("engine", ["dataset", "engine"], engines, [(engines, changes.fell)]),
        ("timing", TIMED, timings, [(overhead, changes.slowed)]),
        ("epsilon", ARM, epsilons, [(epsilon, changes.spends)]),
    )
    for kind, columns, due, differing in kinds:
        found: dict[tuple[Any, ...], list[str]] = {}
        for frame, words in differing:
            for row in changes.worse(frame):
                found.setdefault(_key(row, columns), []).append(words(row))
        for row in due.to_dict("records"):
            key = _key(row, columns)
            yield Check(
                kind=kind,
                key=key,
                label=row["label"],
                missing=row["missing"],
                in_part=bool(row.get("in_part")),
                regressions=tuple(found.get(key, ())),
            )


def counts(found: Sequence[Check]) -> dict[str, dict[str, int]]:
    """Of arms, timings and epsilons: how many were `checked`, `in_part`, and there are (`of`)."""
    answer = {}
    for kind in KINDS:
        these = [check for check in found if check.kind == kind]
        answer[f"{kind}s"] = {
            "checked": sum(check.missing is None for check in these),
            "in_part": sum(check.in_part for check in these),
            "of": len(these),
        }
    return answer


def summary(found: Sequence[Check]) -> str:
    """What was checked out of what there was: `checked 20 of 20 arms, 14 of 14 timings, ...`."""
    parts = []
    for noun, count in counts(found).items():
        also = f" and {count['in_part']:,} in part" if count["in_part"] else ""
        parts.append(f"{count['checked']:,} of {count['of']:,} {noun}{also}")
    return f"checked {', '.join(parts)}"


def missing(found: Sequence[Check]) -> list[Check]:
    """The checks that are missing, but not an epsilon of an arm that is missing itself."""
    gone = [check for check in found if check.missing is not None]
    arms_gone = {check.key for check in gone if check.kind == "arm"}
    return [check for check in gone if check.kind != "epsilon" or check.key not in arms_gone]


def _key(row: Any, columns: Sequence[str]) -> tuple[Any, ...]:
    """The row's values, in which a null equals a null."""
    return tuple(None if pd.isna(row[name]) else row[name] for name in columns)


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) or (pd.isna(one) and pd.isna(other))


def _value(value: Any) -> str:
    if pd.isna(value):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
