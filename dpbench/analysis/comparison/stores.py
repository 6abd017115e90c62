"""The comparison of two stores."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from dpbench import store, strings
from dpbench.analysis.comparison import changes, coverage, differences, losses
from dpbench.analysis.comparison.differences import HEADROOM, TOLERANCE
from dpbench.errors import BadInput
from dpbench.privacy import accounting

Verdict = Literal["regression", "missing", "nothing-to-compare", "no-regression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs between two stores.

    Attributes:
        versions: As `differences.versions` gives it; the next four likewise, with a column `label`.
        trials: Of both sides.
        accuracy: Of arms that have seeds in common, and of engines over these.
        overhead: Of timings that are on both sides, in the same way on the same hardware.
        epsilon: Of arms that are on both sides.
        loss: As `losses.loss`, with a column `label`: of arms without an accuracy.
        checks: Of everything that BEFORE holds, with what is missing and what got worse.
        apart: As `differences.apart` gives it.
    """

    versions: pd.DataFrame
    trials: pd.DataFrame
    accuracy: pd.DataFrame
    overhead: pd.DataFrame
    epsilon: pd.DataFrame
    loss: pd.DataFrame
    checks: tuple[coverage.Check, ...]
    apart: tuple[str, ...]

    @property
    def missing(self) -> list[coverage.Check]:
        """What could not be checked, or not in full."""
        return coverage.missing(self.checks)

    @property
    def comparable(self) -> bool:
        """Whether anything on one side can be held against the other: failures alone cannot."""
        statuses = self.trials[["status_before", "status_after"]]
        both = (statuses != "missing").all(axis=1) & (statuses == "ok").any(axis=1)
        return bool(both.any()) or len(self.overhead) + len(self.epsilon) > 0

    @property
    def regressions(self) -> tuple[str, ...]:
        """A line for each."""
        return tuple(
            f"{check.label}: {what}" for check in self.checks for what in check.regressions
        )

    def verdict(self, *, allow_missing: bool = False) -> Verdict:
        """In one word; a regression outweighs what is missing."""
        if not self.comparable:
            return "nothing-to-compare"
        if self.regressions:
            return "regression"
        return "missing" if self.missing and not allow_missing else "no-regression"


def compare_stores(
    before: str | Path,
    after: str | Path,
    *,
    tolerance: float = TOLERANCE,
    headroom: float = HEADROOM,
) -> Comparison:
    """Compares two stores, as after an upgrade: accuracy by seed, overhead ratios, epsilons.

        comparison = dpbench.compare_stores("results/before", "results/after")
        assert comparison.verdict() == "no-regression", comparison.regressions

    Args:
        before: A store.
        after: A store.
        tolerance: Fall of accuracy that is allowed, a fraction.
        headroom: Growth of an overhead ratio that is allowed.

    Raises:
        BadInput: There is no such folder, it cannot be read, or a number is out of range.
    """
    if not tolerance >= 0:
        raise BadInput(f"Expected tolerance={tolerance} >= 0.")
    if not headroom >= 1:
        raise BadInput(f"Expected headroom={headroom} >= 1.")
    roots = Path(before), Path(after)
    for root in roots:
        if not os.path.isdir(root):  # noqa: PTH112  # pathlib's raises where a name is too long
            raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
    trials = [_accounted(store.read_trials(root)) for root in roots]
    timings = [store.read_timings(root) for root in roots]
    columns = [*differences.WHERE, *differences.BY]
    where = [
        pd.concat([each[columns] for each in side if len(each)] or [side[0]])
        for side in zip(trials, timings, strict=True)
    ]
    accuracy = changes.labelled(differences.accuracy(*trials, tolerance=tolerance))
    overhead = changes.labelled(differences.overhead(*timings, headroom=headroom))
    epsilon = changes.labelled(differences.epsilon(*trials))
    loss = changes.labelled(losses.loss(*trials))
    ended = changes.labelled(differences.trials(*trials))
    checks = coverage.checks(
        trials=ended.assign(reason=ended["reason"].map(strings.one_line)),
        accuracy=accuracy,
        overhead=overhead,
        epsilon=epsilon,
        loss=loss,
        arms=changes.labelled(coverage.arms(ended)),
        timings=changes.labelled(coverage.timings(*timings)),
        epsilons=changes.labelled(coverage.epsilons(trials[0], epsilon)),
    )
    return Comparison(
        versions=differences.versions(*where),
        trials=ended,
        accuracy=accuracy,
        overhead=overhead,
        epsilon=epsilon,
        loss=loss,
        checks=tuple(checks),
        apart=tuple(differences.apart(*trials)),
    )


def _accounted(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows; epsilons of last epochs are by one accountant, others are not compared."""
    last = trials["epoch"] == trials["epochs"]
    return pd.concat([accounting.by_one_accountant(trials[last]), trials[~last]]).sort_index()
