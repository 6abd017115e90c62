"""A search before it runs: the settings that are drawn of each grid, at each target."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpbench import strings, user_code
from dpbench.datasets import user_data
from dpbench.errors import BadInput
from dpbench.execution import grid as grids
from dpbench.execution import searched_grid
from dpbench.execution.grid import Grid
from dpbench.execution.searched_grid import Candidate
from dpbench.search import halving
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
        eta: Of those that train for a while one in so many goes on; None where all do.
    """

    count: int
    settings: int
    candidates: tuple[Candidate, ...]
    baselines: tuple[Trial, ...]
    eta: int | None = None

    @property
    def rungs(self) -> int:
        """How often settings are compared, the end included."""
        return 1 if self.eta is None else halving.rungs(self._most_epochs, self.eta)

    @property
    def _most_epochs(self) -> int:
        return max((trial.epochs for each in self.candidates for trial in each.trials), default=1)

    def of_rung(self, rung: int, candidates: Iterable[Candidate]) -> list[Trial]:
        """The candidates' trials with the epochs of a rung, each once."""
        every = [trial for each in candidates for trial in each.trials]
        if self.eta is not None:
            every = [
                replace(trial, epochs=halving.rung_epochs(trial.epochs, self.eta, rung, self.rungs))
                for trial in every
            ]
        return list(dict.fromkeys(every))

    @property
    def trials(self) -> list[Trial]:
        """All that it runs at first, each once, baselines first: those of the first rung."""
        return list(dict.fromkeys([*self.baselines, *self.of_rung(0, self.candidates)]))

    @property
    def sentence(self) -> str:
        """What is drawn, for the terminal."""
        targets = len({each.group for each in self.candidates})
        stops = ""
        if self.eta is not None:
            epochs = [
                halving.rung_epochs(self._most_epochs, self.eta, rung, self.rungs)
                for rung in range(self.rungs)
            ]
            stops = (
                f" After {' and '.join(map(str, epochs[:-1]))} of {epochs[-1]} epochs one in "
                f"{self.eta} goes on, by validation."
            )
        return (
            f"Search: {strings.counted(self.settings, 'setting')} of {self.count} drawn"
            f"{' of each grid' if self.settings > self.count else ''}, "
            f"{strings.counted(len(self.trials) - len(self.baselines), 'trial')}"
            f"{f' at {targets} targets' if targets > 1 else ''}, "
            f"and {strings.counted(len(self.baselines), 'non-private one')}.{stops}"
        )


def plan(
    every: Sequence[Grid],
    dataset: str,
    count: Any,
    *,
    early_stop: Any = None,
    fastest: Callable[[Trial], str],
) -> SearchPlan:
    """The search of each grid by settings of its own.

    Args:
        every: At least one grid.
        dataset: Its name.
        count: Settings of each grid.
        early_stop: One in so many goes on; True for one in four; None or False stops none.
        fastest: As of `grid.trials`.

    Raises:
        BadInput: The count is none, there is nothing to draw, or a trial is not valid.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise BadInput(f"Expected search={count!r} to be a number of settings, 1 to {MOST:,}.")
    every = [each.with_defaults(dataset) for each in every]
    eta = _eta(early_stop, every, dataset)
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
    found = SearchPlan(
        count=count,
        settings=sum(map(len, drawn)),
        candidates=tuple(candidates),
        baselines=tuple(grids.baselines(of_baselines, dataset, fastest=fastest)),
        eta=eta,
    )
    if eta is not None and found.rungs < 2:
        raise BadInput("Expected epochs=1 to be 2 or more with early_stop: nothing stops earlier.")
    return found


def _eta(early_stop: Any, every: Sequence[Grid], dataset: str) -> int | None:
    """How many settings there are for each that goes on; None where none is stopped.

    Raises:
        BadInput: It is none, nothing is held out to judge by, or trials do not repeat shorter ones.
    """
    if early_stop is None or early_stop is False:
        return None
    eta = halving.ETA if early_stop is True else early_stop
    if not isinstance(eta, int) or eta < 2:
        raise BadInput(
            f"Expected early_stop={early_stop!r} to be 2 or more: one in so many settings goes on."
        )
    own = user_code.is_reference(dataset) and user_data.known(dataset).validation_examples
    if not all(each.validation_examples or own for each in every):
        raise BadInput(
            f"Expected examples held out with early_stop={eta}, which stops trials by their "
            "validation accuracy: give --validation, such as 10%."
        )
    if any(each.fresh_noise for each in every):
        raise BadInput(
            f"Expected no fresh_noise with early_stop={eta}: a trial that goes on repeats its "
            "first epochs, and fresh noise would release them twice."
        )
    if any(each.clip_only for each in every):
        raise BadInput(
            f"Expected no clip_only with early_stop={eta}: run what is chosen again with "
            "--clip-only."
        )
    return eta
