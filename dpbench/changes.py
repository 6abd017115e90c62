"""Frames of `differences` -> lines of text, for a terminal."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

Table = tuple[Sequence[str], list[Sequence[str]]]  # header and rows


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a text column `label`: the settings of an arm or a timing in a few words."""
    return frame.assign(label=[_label(row) for row in frame.to_dict("records")])


def _label(row: Mapping[Any, Any]) -> str:
    if row.get("arms", 1) > 1:
        return f"{row['engine']}, all {row['arms']:.0f} arms"
    words = [str(row["engine"])]
    if not math.isnan(row.get("noise_multiplier", math.nan)):
        words.append(f"noise {row['noise_multiplier']:g} clip {row['max_grad_norm']:g}")
    words.append(f"batch {row['batch_size']:.0f}")
    if "learning_rate" in row:
        words.append(f"lr {row['learning_rate']:g} epochs {row['epochs']:.0f}")
    if "seed" in row:
        words.append(f"seed {row['seed']:.0f}")
    if "device" in row:
        words.append(f"on {row['device']}")
    return " ".join(words)


def regressions(
    trials: pd.DataFrame, accuracy: pd.DataFrame, overhead: pd.DataFrame, epsilon: pd.DataFrame
) -> Iterator[str]:
    """A line for each regression in the labelled frames."""
    for row in _worse(trials):
        yield f"{row['label']}: was ok, and fails now: {row['reason']}"
    for row in _worse(accuracy):
        yield f"{row['label']}: accuracy {100 * row['difference']:+.2f} points"
    for row in _worse(overhead):
        before, after = row["overhead_ratio_before"], row["overhead_ratio_after"]
        yield f"{row['label']}: overhead ratio {before:.2f} -> {after:.2f}"
    for row in _worse(epsilon):
        before, after = row["epsilon_before"], row["epsilon_after"]
        yield f"{row['label']}: epsilon {before:.6g} -> {after:.6g}"


def _worse(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return list(frame[frame["regression"].astype(bool)].to_dict("records"))


def versions_table(versions: pd.DataFrame) -> Table:
    """Versions and hardware of both sides, what differs marked."""
    return ("", "before", "after", ""), [
        (row["what"], row["before"], row["after"], "" if row["same"] else "changed")
        for row in versions.to_dict("records")
    ]


def accuracy_table(accuracy: pd.DataFrame) -> Table:
    """Every arm's and engine's accuracy, in per cent."""
    return ("test accuracy (%)", "pairs", "before", "after", "difference", "95 % interval", ""), [
        (
            row["label"],
            str(row["pairs"]),
            f"{100 * row['test_accuracy_before']:.2f}",
            f"{100 * row['test_accuracy_after']:.2f}",
            f"{100 * row['difference']:+.2f}",
            f"[{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]" if row["pairs"] > 1 else "none",
            _mark(row),
        )
        for row in accuracy.to_dict("records")
    ]


def overhead_table(overhead: pd.DataFrame) -> Table:
    """Every engine's overhead ratio; a star where it was measured while other processes ran."""
    rows: list[Sequence[str]] = []
    for row in overhead.to_dict("records"):
        cells = [row["label"]]
        for side in ("before", "after"):
            low, high = row[f"overhead_ratio_low_{side}"], row[f"overhead_ratio_high_{side}"]
            star = "" if row[f"alone_{side}"] else "*"
            cells += [f"{row[f'overhead_ratio_{side}']:.2f}", f"[{low:.2f}, {high:.2f}]{star}"]
        rows.append([*cells, f"{row['growth']:.2f}", _mark(row)])
    return ("overhead ratio", "before", "interval", "after", "interval", "growth", ""), rows


def epsilon_table(epsilon: pd.DataFrame) -> Table:
    """The arms whose epsilon or accountant differs."""
    changed = epsilon[
        (epsilon["rise"] != 0) | (epsilon["accountant_before"] != epsilon["accountant_after"])
    ]
    return ("epsilon", "before", "after", "change", ""), [
        (
            row["label"],
            f"{row['epsilon_before']:.6g} ({row['accountant_before']})",
            f"{row['epsilon_after']:.6g} ({row['accountant_after']})",
            f"{100 * row['rise']:+.4f} %",
            _mark(row),
        )
        for row in changed.to_dict("records")
    ]


def _mark(row: Mapping[Any, Any]) -> str:
    return "REGRESSION" if row["regression"] else ""
