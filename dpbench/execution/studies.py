"""What a store knows of a search at one target: which settings have run, and how they scored."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpbench import strings, user_code
from dpbench.analysis import trial_rows
from dpbench.execution import searched_grid
from dpbench.execution.grid import Grid
from dpbench.execution.searched_grid import Candidate
from dpbench.search import surface
from dpbench.search.space import Space
from dpbench.search.surface import Told
from dpbench.trial import Trial

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A search of one grid at one target.

    Attributes:
        grid: With its defaults and one target.
        label: The target, for the user.
        dataset: Its name.
        fastest: As of `grid_trials.trials`.
    """

    grid: Grid
    label: str
    dataset: str
    fastest: Callable[[Trial], str]

    @property
    def space(self) -> Space:
        """What is drawn from."""
        return searched_grid.space(self.grid)

    def candidate(self, setting: dict[str, Any]) -> Candidate:
        """The trials of a setting of the space."""
        grid = searched_grid.at(self.grid, setting)
        (found,) = searched_grid.candidates(grid, self.dataset, fastest=self.fastest)
        return found

    def told(self, rows: "pd.DataFrame") -> list[tuple[Told, Candidate]]:
        """The settings of the space all of whose trials have ended, in an order of their own.

        Whichever command has asked for them. One that has failed scores as the worst that has not.

        Args:
            rows: Of a store, with scores.
        """
        ended = set(rows[(rows["status"] != "ok") | (rows["epoch"] == rows["epochs"])]["trial_id"])
        scores = trial_rows.final(rows).set_index("trial_id")["validation_score"]
        found = []
        for setting in self._settings(rows):
            candidate = self.candidate(setting)
            ids = [trial.trial_id for trial in candidate.trials]
            if ended.issuperset(ids):
                score = float(scores.reindex(ids).mean(skipna=False))
                found.append((setting, score, candidate))
        worst = min((each[1] for each in found if not math.isnan(each[1])), default=0.0)
        return [
            ((setting, worst if math.isnan(score) else score), candidate)
            for setting, score, candidate in found
        ]

    def _settings(self, rows: "pd.DataFrame") -> Iterable[dict[str, Any]]:
        """Those of the rows' trials that the space holds, each once, in an order of their own."""
        names = list(self.space.dimensions)
        private = trial_rows.private(rows).drop_duplicates("trial_id")
        heads = private.drop_duplicates(names)[names].to_dict("records")
        models = {_shown(name): name for name in self.grid.model or ()}
        found = {}
        for head in heads:
            setting = {name: _plain(value) for name, value in head.items()}
            if "model" in setting:
                setting["model"] = models.get(str(setting["model"]).partition("(")[0])
            if self.space.holds(setting):
                found[json.dumps(setting)] = setting
        return [found[text] for text in sorted(found)]

    def next(self, told: list[Told], count: int) -> list[dict[str, Any]]:
        """So many settings that are not known, or fewer where the space is nearly exhausted.

        Args:
            told: What is known.
            count: Of settings.
        """
        known = {json.dumps(setting) for setting, _ in told}
        found: dict[str, dict[str, Any]] = {}
        for attempt in range(_ATTEMPTS):
            seed = len(told) * _ATTEMPTS + attempt
            for setting in surface.ask(self.space, told, count - len(found), seed=seed):
                if json.dumps(setting) not in known:
                    found[json.dumps(setting)] = setting
            if len(found) == count:
                break
        return list(found.values())


_ATTEMPTS = 20  # at settings that have not run: those of short lists repeat


def studies(
    grids: Iterable[Grid], dataset: str, *, fastest: Callable[[Trial], str]
) -> tuple[Study, ...]:
    """Those of each grid at each of its targets.

    Args:
        grids: With their defaults.
        dataset: Its name.
        fastest: As of `grid_trials.trials`.
    """
    return tuple(
        Study(grid=each, label=label, dataset=dataset, fastest=fastest)
        for grid in grids
        for _, label, each in searched_grid.at_each_target(grid)
    )


def sentence(study: Study, told: list[Told], count: int) -> str:
    """How far it is, for the terminal."""
    best = max((score for _, score in told), default=math.nan)
    return (
        f"Search {study.label}: {strings.counted(len(told), 'setting')} of {count}, "
        f"best validation score {best:.4g}."
    )


def _shown(model: str) -> str:
    """The model's name in a store, without arguments."""
    return user_code.find(model).name if user_code.is_reference(model) else model


def _plain(value: Any) -> Any:
    """A number of a frame as Python's."""
    return value.item() if hasattr(value, "item") else value
