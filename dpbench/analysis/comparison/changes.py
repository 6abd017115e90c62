"""Frames of `differences` -> lines of text, for a terminal."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

Table = tuple[Sequence[str], list[Sequence[str]]]  # header and rows
Words = Callable[[Mapping[Any, Any]], str]  # row -> what got worse

_TELLING = {  # said in a label only where rows differ in it
    "dataset": "{}",
    "model": "{}",
    "optimizer": "{}",
    "clipping": "{} clipping",
    "validation_examples": "{:.0f} held out",
    "delta": "delta {:g}",
    "device_name": "({})",
    "threads": "{:.0f} threads",
    "physical_batch_size": "{:.0f} at once",
}


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a text column `label`: the settings of an arm or a timing in a few words."""
    telling = [name for name in _TELLING if name in frame and _differ(frame, name)]
    return frame.assign(label=[_label(row, telling) for row in frame.to_dict("records")])


def _differ(frame: pd.DataFrame, name: str) -> bool:
    """Whether arms or timings differ in the column; a null is a value, but not of delta."""
    alone = frame[frame["arms"] == 1] if "arms" in frame else frame
    return int(alone[name].nunique(dropna=name == "delta")) > 1


def _label(row: Mapping[Any, Any], telling: Sequence[str]) -> str:
    also = [_TELLING[name].format(row[name]) for name in telling if not pd.isna(row[name])]
    if row.get("arms", 1) > 1:
        return " ".join([f"{row['engine']}, all {row['arms']:.0f} arms", *also])
    words = [str(row["engine"])]
    if not math.isnan(row.get("noise_multiplier", math.nan)):
        words.append(f"noise {row['noise_multiplier']:g} clip {row['max_grad_norm']:g}")
    words.append(f"batch {row['batch_size']:.0f}")
    if "learning_rate" in row:
        words.append(f"lr {row['learning_rate']:g} epochs {row['epochs']:.0f}")
    if row.get("momentum"):
        words.append(f"momentum {row['momentum']:g}")
    if row.get("sampling", "poisson") != "poisson":
        words.append(str(row["sampling"]))
    if "device" in row:
        words.append(f"on {row['device']}")
    return " ".join([*words, *also, *([f"seed {row['seed']:.0f}"] if "seed" in row else [])])


def moved(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The engines' rows, and those of arms of which the accuracy of any seed differs."""
    if accuracy.empty:
        return accuracy
    alike = (accuracy["high"] == 0) | (accuracy["seeds"] == 1)
    same = (accuracy["difference"] == 0) & alike
    return accuracy[(accuracy["arms"] > 1) | ~same]


def worst(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, in their order: engines' means, regressions, and the next to be so."""
    if len(frame) <= most:
        return frame
    by = next(name for name in ("difference", "growth", "rise") if name in frame)
    rank = pd.DataFrame(
        {
            "mean": frame["arms"] > 1 if "arms" in frame else False,
            "regression": frame["regression"],
            "by": frame[by] * (-1 if by == "difference" else 1),
        }
    )
    kept = rank.sort_values(list(rank), ascending=False, na_position="first", kind="stable").index[
        :most
    ]
    return frame[frame.index.isin(kept)]


def worse(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows that are regressions."""
    return list(frame[frame["regression"].astype(bool)].to_dict("records"))


def failed(row: Mapping[Any, Any]) -> str:
    """How a trial fails now that was ok: of a regression of `differences.trials`."""
    how = "" if row["status_after"] == "failed" else f" ({row['status_after']})"
    return f"seed {row['seed']:.0f} was ok, and fails now{how}: {row['reason']}"


def fell(row: Mapping[Any, Any]) -> str:
    """How far an accuracy fell."""
    over = f" over {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return f"accuracy {100 * row['difference']:+.2f} points{over}"


def rose(row: Mapping[Any, Any]) -> str:
    """How far a loss rose."""
    over = f" over {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return f"loss {100 * row['rise']:+.2f} %{over}"


def slowed(row: Mapping[Any, Any]) -> str:
    """How far an overhead ratio rose."""
    before, after = row["overhead_ratio_before"], row["overhead_ratio_after"]
    return f"overhead ratio {before:.2f} -> {after:.2f}"


def spends(row: Mapping[Any, Any]) -> str:
    """How far an epsilon rose."""
    before, after = (_number(row[f"epsilon_{side}"]) for side in ("before", "after"))
    return f"epsilon {before} -> {after}"


def versions_table(versions: pd.DataFrame) -> Table:
    """Versions and hardware of both sides, what differs marked."""
    return ("", "before", "after", ""), [
        (row["what"], row["before"], row["after"], "" if row["same"] else "changed")
        for row in versions.to_dict("records")
    ]


def accuracy_table(accuracy: pd.DataFrame) -> Table:
    """Arms' and engines' accuracies, in per cent."""
    return ("test accuracy (%)", "seeds", "before", "after", "difference", "95 % interval", ""), [
        (
            row["label"],
            str(row["seeds"]),
            f"{100 * row['test_accuracy_before']:.2f}",
            f"{100 * row['test_accuracy_after']:.2f}",
            f"{100 * row['difference']:+.2f}",
            "none"
            if math.isnan(row["low"])
            else f"[{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]",
            _mark(row),
        )
        for row in accuracy.to_dict("records")
    ]


def loss_table(loss: pd.DataFrame) -> Table:
    """The arms whose loss differs."""
    return ("test loss", "seeds", "before", "after", "change", "95 % interval", ""), [
        (
            row["label"],
            str(row["seeds"]),
            f"{row['test_loss_before']:.4g}",
            f"{row['test_loss_after']:.4g}",
            f"{100 * row['rise']:+.2f} %",
            f"[{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]" if row["seeds"] > 1 else "none",
            _mark(row),
        )
        for row in loss[loss["rise"] != 0].to_dict("records")
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
    accountants = epsilon[["accountant_before", "accountant_after"]].fillna("")
    other = accountants["accountant_before"] != accountants["accountant_after"]
    changed = epsilon[(epsilon["rise"] != 0) | other]
    return ("epsilon", "before", "after", "change", ""), [
        (
            row["label"],
            _spent(row, "before"),
            _spent(row, "after"),
            "" if math.isnan(row["rise"]) else f"{100 * row['rise']:+.4f} %",
            _mark(row),
        )
        for row in changed.to_dict("records")
    ]


def _spent(row: Mapping[Any, Any], side: str) -> str:
    """Epsilon of a side with its accountant."""
    number, accountant = _number(row[f"epsilon_{side}"]), row[f"accountant_{side}"]
    return number if pd.isna(accountant) else f"{number} ({accountant})"


def _number(epsilon: float) -> str:
    return "none" if math.isnan(epsilon) else f"{epsilon:.6g}"


def _mark(row: Mapping[Any, Any]) -> str:
    return "REGRESSION" if row["regression"] else ""
