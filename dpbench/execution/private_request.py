"""A private search as it is asked for, and what its guarantee does not cover."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpbench import datasets, engines, user_code
from dpbench.datasets import user_data
from dpbench.errors import BadInput
from dpbench.execution import searched_grid
from dpbench.execution.grid import Grid
from dpbench.privacy import run_count
from dpbench.privacy.run_count import RunCount
from dpbench.search.ranges import Range
from dpbench.search.space import Space

MEAN = 20  # runs, where none is given
VALIDATION = 0.1  # of the training examples, where none is given
_MOST_SCHEDULES = 64
_OWN_AXES = {"noise_multiplier": "--noise-multiplier", "target_epsilon": "--target-epsilon"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A private search as it is asked for. Equal requests are one search.

    Attributes:
        grid: That settings are drawn from, with its defaults.
        dataset: Its name.
        count: The distribution of the number of runs.
        total_epsilon: That the whole search may spend; None where the grid has the noise.
        private_scores: Whether scores are noisy, so that the held-out examples are covered.
    """

    grid: Grid
    dataset: str
    count: RunCount
    total_epsilon: float | None
    private_scores: bool

    @property
    def asked(self) -> Mapping[str, Any]:
        """As JSON."""
        return {
            "version": 1,
            "dataset": self.dataset,
            "data_hash": datasets.data_hash(self.dataset),
            "grid": repr(self.grid),
            "count": str(self.count),
            "total_epsilon": self.total_epsilon,
            "private_scores": self.private_scores,
        }

    @property
    def solved(self) -> bool:
        """Whether the noise follows from an epsilon, and is none of the settings' values."""
        return self.total_epsilon is not None or self.grid.target_epsilon is not None

    @property
    def space(self) -> Space:
        """What a run's setting is drawn from."""
        found = dict(searched_grid.space(self.grid).dimensions)
        noise = self.grid.noise_multiplier
        if self.solved:
            found.pop("noise_multiplier", None)
        elif noise is not None and (isinstance(noise, Range) or len(noise) > 1):
            found["noise_multiplier"] = noise if isinstance(noise, Range) else tuple(noise)
        return Space(dimensions=found)

    @property
    def schedules(self) -> list[tuple[int, int]]:
        """The batch sizes and epochs that may be drawn."""
        sizes, epochs = (self.grid.values(name) for name in ("batch_size", "epochs"))
        return list(itertools.product(sizes, epochs))

    @property
    def held_out(self) -> int:
        """Examples that runs are scored on."""
        return int(self.grid.validation_examples) or _own_validation(self.dataset)


def request(
    every: Sequence[Grid],
    dataset: str,
    *,
    mean: Any,
    distribution: Any,
    total_epsilon: Any,
    private_scores: bool,
) -> Request:
    """The search that is asked for.

    Args:
        every: One grid.
        dataset: Its name.
        mean: Of the number of runs; None for the default.
        distribution: Of the number of runs; None or True for the default.
        total_epsilon: For the whole search; None where the grid says the noise.
        private_scores: As of `Request`.

    Raises:
        BadInput: The guarantee does not hold for what is asked.
    """
    if len(every) != 1:
        raise BadInput("Expected one grid with --private-selection, not several [[grid]] tables.")
    (grid,) = every
    count = _count(mean, distribution)
    if total_epsilon is not None:
        _refuse_total(total_epsilon, grid)
    _refuse(grid)
    if private_scores and datasets.spec(dataset).classes < 2:
        raise BadInput(
            f"Expected classes as targets of {dataset} with --private-scores: the noise is on the "
            "number of right answers."
        )
    if not grid.validation_examples and not _own_validation(dataset):
        grid = replace(grid, validation_examples=VALIDATION)
    found = Request(
        grid=replace(grid.with_defaults(dataset), baseline=False, fresh_noise=True),
        dataset=dataset,
        count=count,
        total_epsilon=None if total_epsilon is None else float(total_epsilon),
        private_scores=private_scores,
    )
    if len(found.schedules) > _MOST_SCHEDULES:
        raise BadInput(
            f"Expected at most {_MOST_SCHEDULES} pairs of batch_size and epochs, not "
            f"{len(found.schedules)}: the bound is computed for each."
        )
    return found


def _count(mean: Any, distribution: Any) -> RunCount:
    """The distribution of the number of runs, of the arguments of `request`."""
    if isinstance(mean, bool) or not isinstance(mean, int | float | None):
        raise BadInput(f"Expected search={mean!r} to be the mean number of runs.")
    named = run_count.DEFAULT if distribution in (None, True) else distribution
    return RunCount(distribution=named, mean=float(MEAN if mean is None else mean))


def _refuse_total(total_epsilon: Any, grid: Grid) -> None:
    """Raises BadInput where it is no epsilon, or the grid says the noise, too."""
    number = isinstance(total_epsilon, int | float) and not isinstance(total_epsilon, bool)
    if not (number and 0 < total_epsilon < math.inf):
        raise BadInput(f"Expected total_epsilon={total_epsilon!r} > 0 and finite.")
    for name, flag in _OWN_AXES.items():
        if getattr(grid, name) is not None:
            raise BadInput(f"Expected {flag} or --total-epsilon, not both.")


def _refuse(grid: Grid) -> None:
    """Raises BadInput where the bound does not hold for every run that the grid may draw."""
    for name in ("batch_size", "epochs"):
        if isinstance(values := getattr(grid, name), Range):
            raise BadInput(
                f"Expected {name} to be a list with --private-selection, not the range {values}: "
                "the bound takes every value that may be drawn."
            )
    for name in ("target_epsilon", "sampling", "engine"):
        several = getattr(grid, name) or ()
        if len(several) > 1:
            raise BadInput(
                f"Expected one {name} with --private-selection, not "
                f"{', '.join(map(str, several))}: each would be a search of its own."
            )
    if set(grid.engine) & set(engines.non_private_names()):
        raise BadInput(f"Expected a private engine with --private-selection, not {grid.engine[0]}.")
    if tuple(grid.seed) != (0,):
        raise BadInput("Expected no --seeds with --private-selection: each run draws its own.")
    noise = grid.noise_multiplier
    least = noise.low if isinstance(noise, Range) else min(noise or (1.0,))
    if grid.clip_only or least <= 0:
        raise BadInput(
            "Expected every run to have noise with --private-selection: one that only clips has no "
            "epsilon, and so the search has none."
        )


def _own_validation(dataset: str) -> int:
    """Size of the validation set that the user's data bring; 0 where they bring none."""
    if not user_code.is_reference(dataset):
        return 0
    return user_data.known(dataset).validation_examples
