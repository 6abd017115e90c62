"""The answers as rows of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpbench.analysis.answers import Best
from dpbench.privacy import guarantee
from dpbench.reporting import quantities
from dpbench.reporting.page.contents import Shown

_HEAD = (
    "within epsilon",
    "spent",
    "accuracy %",
    "points lost",
    "time of a step",
    "noise_multiplier",
    "max_grad_norm",
    "batch_size",
    "learning_rate",
    "epochs",
    "sampling",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """A row: its cells under `head`, and the id of its arm's row, if it has one."""

    cells: Sequence[str]
    row: str | None


def head(shown: Sequence[Shown]) -> Sequence[str]:
    """The columns' names; where targets are no classes the metric stands for the accuracy."""
    given = [each.answer.best for each in shown if each.answer.best is not None]
    if given and all(math.isnan(best.accuracy.mean) for best in given):
        return [f"test {given[0].metric}" if name == "accuracy %" else name for name in _HEAD]
    return _HEAD


def answer_rows(shown: Sequence[Shown]) -> list[AnswerRow]:
    """A row for each answer; one without a trial says so."""
    return [AnswerRow(cells=_cells(each), row=each.row) for each in shown]


def _cells(shown: Shown) -> Sequence[str]:
    within, best = f"{shown.answer.epsilon_at_most:g}", shown.answer.best
    if best is None:
        return (within, "", "no trial", *[""] * (len(_HEAD) - 4), shown.answer.sampling)
    chosen = best.setting
    return (
        within,
        guarantee.rounded_up(best.epsilon, 3),
        _accuracy(best),
        _lost(best),
        f"{best.step_times[0].ratio:.2f} x" if best.step_times else "",
        f"{chosen.noise_multiplier:g}",
        f"{chosen.max_grad_norm:g}",
        f"{chosen.batch_size}",
        f"{chosen.learning_rate:g}",
        f"{chosen.epochs}",
        chosen.sampling,
    )


def _accuracy(best: Best) -> str:
    """In percent; where targets are no classes, the metric that it was chosen by."""
    if math.isnan(best.accuracy.mean):
        return f"{best.test_metric:.4g}"
    return quantities.accuracy(best.accuracy, seeds="").replace(" %", "")


def _lost(best: Best) -> str:
    """Points with half of the interval's width, or what stands in their place."""
    if best.loss is None:
        return ""
    if best.verdict == "loses":
        half = 100 * (best.loss.high - best.loss.mean)
        interval = "" if math.isnan(half) else f" ± {half:.2f}"
        return f"{100 * best.loss.mean:.2f}{interval}"
    return "no clear one" if best.verdict == "not-told-apart" else "none"
