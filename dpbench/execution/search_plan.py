"""A search before it runs: the settings that are drawn of each grid, at each target."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpbench import strings
from dpbench.errors import BadInput
from dpbench.execution import grid as grids
from dpbench.execution import searched_grid
from dpbench.execution.grid import Grid
from dpbench.execution.searched_grid import Candidate
from dpbench.trial import Trial

MOST = 100_000  # settings; more is a slip


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What a search runs.

    Attributes:
        count: Settings that are drawn of each grid.
        settings: Distinct ones among them, of all grids.
        candidates: Each of these at each of its targets.
        baselines: Non-private trials that run beside them.
    """

    count: int
    settings: int
    candidates: tuple[Candidate, ...]
    baselines: tuple[Trial, ...]

    @property
    def trials(self) -> list[Trial]:
        """All that it may run, each once, baselines first."""
        every = itertools.chain(self.baselines, *(each.trials for each in self.candidates))
        return list(dict.fromkeys(every))

    @property
    def sentence(self) -> str:
        """What is drawn, for the terminal."""
        targets = len({each.group for each in self.candidates})
        return (
            f"Search: {strings.counted(self.settings, 'setting')} of {self.count} drawn"
            f"{' of each grid' if self.settings > self.count else ''}, "
            f"{strings.counted(len(self.trials) - len(self.baselines), 'trial')}"
            f"{f' at {targets} targets' if targets > 1 else ''}, "
            f"and {strings.counted(len(self.baselines), 'non-private one')}."
        )


def plan(
    every: Sequence[Grid], dataset: str, count: Any, *, fastest: Callable[[Trial], str]
) -> SearchPlan:
    """The search of each grid by settings of its own.

    Args:
        every: At least one grid.
        dataset: Its name.
        count: Settings of each grid.
        fastest: As of `grid.trials`.

    Raises:
        BadInput: The count is none, there is nothing to draw, or a trial is not valid.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise BadInput(f"Expected search={count!r} to be a number of settings, 1 to {MOST:,}.")
    every = [each.with_defaults(dataset) for each in every]
    if not any(map(searched_grid.space, every)):
        raise BadInput(
            f"Expected something to search with search={count}: an axis with several values, or a "
            "range such as learning_rate log:0.1:16."
        )
    drawn = [searched_grid.settings(each, count) for each in every]
    candidates = [
        candidate
        for index, of_grid in enumerate(drawn)
        for setting in of_grid
        for candidate in searched_grid.candidates(setting, dataset, index=index, fastest=fastest)
    ]
    of_baselines = [searched_grid.baselines(each) for each in every]
    return SearchPlan(
        count=count,
        settings=sum(map(len, drawn)),
        candidates=tuple(candidates),
        baselines=tuple(grids.baselines(of_baselines, dataset, fastest=fastest)),
    )
