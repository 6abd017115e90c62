"""A search before it runs: the settings that are drawn of each grid, at each target."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpbench import plugins, strings, user_code
from dpbench.datasets import user_data
from dpbench.errors import BadInput
from dpbench.execution import grid_trials, searched_grid, studies
from dpbench.execution.grid import Grid
from dpbench.execution.searched_grid import Candidate
from dpbench.execution.studies import Study
from dpbench.search import halving, surface
from dpbench.trial import Trial

METHODS = ("sobol", "optuna")
MOST = 100_000  # settings; more is a slip


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What a search runs.

    Attributes:
        count: Settings that are drawn of each grid.
        grids: How many there are.
        settings: Distinct ones among them, of all grids.
        candidates: Each of these at each of its targets.
        baselines: Non-private trials that run beside them.
        eta: Of those that train for a while one in so many goes on; None where all do.
        studies: That ask for what is tried after these candidates; none where all are drawn evenly.
    """

    count: int
    grids: int
    settings: int
    candidates: tuple[Candidate, ...]
    baselines: tuple[Trial, ...]
    eta: int | None = None
    studies: tuple[Study, ...] = ()

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
        if self.studies:
            labels = list(dict.fromkeys(each.label for each in self.studies))
            return (
                f"Search: {strings.counted(self.count, 'setting')} "
                f"{'each ' if len(labels) > 1 else ''}{' and '.join(labels)}, the first "
                f"{min(self.count, surface.STARTUP)} drawn evenly and the others asked of Optuna"
                f"{self._beside}."
            )
        drawn = strings.counted(self.count, "setting")
        of_each = f" from each of {self.grids} grids" if self.grids > 1 else ""
        distinct = ""
        if self.settings < self.count * self.grids:
            distinct = f", {self.settings:,} of them distinct"
        runs = strings.counted(len(self.trials) - len(self.baselines), "trial")
        return (
            f"Search: {drawn} drawn{of_each}{distinct}{self._targets}: {runs}{self._beside}."
            f"{self._stops}"
        )

    @property
    def _beside(self) -> str:
        if not self.baselines:
            return ""
        return f" and {strings.counted(len(self.baselines), 'non-private baseline')}"

    @property
    def _targets(self) -> str:
        """At how many targets each setting is tried, where there are several."""
        targets = len({each.target for each in self.candidates})
        if targets < 2:
            return ""
        if len(self.candidates) == self.settings * targets:
            return f", each at {targets} targets"
        return ", each at the targets of its grid"

    @property
    def _stops(self) -> str:
        """When settings are compared, and how many go on."""
        if self.eta is None:
            return ""
        epochs = [
            halving.rung_epochs(self._most_epochs, self.eta, rung, self.rungs)
            for rung in range(self.rungs)
        ]
        return (
            f" After {' and '.join(map(str, epochs[:-1]))} of {epochs[-1]} epochs one in "
            f"{self.eta} goes on, by validation among settings of the same target and like batch "
            "sizes."
        )


def plan(
    every: Sequence[Grid],
    dataset: str,
    count: Any,
    *,
    early_stop: Any = None,
    method: Any = None,
    fastest: Callable[[Trial], str],
) -> SearchPlan:
    """The search of each grid by settings of its own.

    Args:
        every: At least one grid.
        dataset: Its name.
        count: Settings of each grid.
        early_stop: One in so many goes on; True for one in four; None or False stops none.
        method: One of METHODS; None for the first.
        fastest: As of `grid_trials.trials`.

    Raises:
        BadInput: The count is none, there is nothing to draw, or a trial is not valid.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise BadInput(f"Expected search={count!r} to be a number of settings, 1 to {MOST:,}.")
    every = [each.with_defaults(dataset) for each in every]
    eta = _eta(early_stop, every, dataset)
    by_model = _by_model(method, eta, every, dataset)
    if not any(map(searched_grid.space, every)):
        raise BadInput(
            f"Expected something to search with search={count}: an axis with several values, or a "
            "range such as learning_rate log:0.1:16."
        )
    evenly = min(count, surface.STARTUP) if by_model else count
    drawn = [searched_grid.settings(each, evenly) for each in every]
    candidates = [
        candidate
        for of_grid in drawn
        for setting in of_grid
        for candidate in searched_grid.candidates(setting, dataset, fastest=fastest)
    ]
    of_baselines = [searched_grid.baselines(each) for each in every]
    found = SearchPlan(
        count=count,
        grids=len(every),
        settings=sum(map(len, drawn)),
        candidates=tuple(candidates),
        baselines=tuple(grid_trials.baselines(of_baselines, dataset, fastest=fastest)),
        eta=eta,
        studies=studies.studies(every, dataset, fastest=fastest) if by_model else (),
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
    _refuse_unjudged(f"early_stop={eta}", every, dataset)
    if any(each.fresh_noise for each in every):
        raise BadInput(
            f"Expected no fresh_noise with early_stop={eta}: a trial that goes on repeats its "
            "first epochs, and fresh noise would release them twice."
        )
    return eta


def _by_model(method: Any, eta: int | None, every: Sequence[Grid], dataset: str) -> bool:
    """Whether Optuna is asked.

    Raises:
        BadInput: There is no such method, or it cannot be asked.
    """
    known = plugins.known_name(str(method or METHODS[0]), METHODS)
    if known not in METHODS:
        raise BadInput(f"Unknown search_method {method!r}: {plugins.nearest(str(method), METHODS)}")
    if known == METHODS[0]:
        return False
    surface.refuse_missing()
    if eta is not None:
        raise BadInput(
            "Expected no early_stop with search_method=optuna, which judges settings by whole "
            "trainings: leave out one of them."
        )
    _refuse_unjudged("search_method=optuna", every, dataset)
    if any(
        name.startswith("model_args")
        for each in every
        for name in searched_grid.space(each).dimensions
    ):
        raise BadInput(
            "Expected one value of each of model_args with search_method=optuna: workers are sent "
            "the models before it asks for one. search_method=sobol draws them, too."
        )
    return True


def _refuse_unjudged(by: str, every: Sequence[Grid], dataset: str) -> None:
    """Raises BadInput where nothing is held out, or a setting is no one trial at its target."""
    own = user_code.is_reference(dataset) and user_data.known(dataset).validation_examples
    if not all(each.validation_examples or own for each in every):
        raise BadInput(
            f"Expected examples held out with {by}, which judges settings by their validation "
            "accuracy: give --validation, such as 10%."
        )
    if any(each.clip_only for each in every):
        raise BadInput(
            f"Expected no clip_only with {by}: run what is chosen again with --clip-only."
        )
