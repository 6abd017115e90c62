"""A private search before it runs: what is asked for, what it spends, and the runs it has drawn."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import datasets, engines, user_code
from dpbench.datasets import user_data
from dpbench.errors import BadInput
from dpbench.execution import grid as grids
from dpbench.execution import searched_grid
from dpbench.execution.grid import Grid
from dpbench.privacy import run_count
from dpbench.privacy.run_count import RunCount
from dpbench.search.ranges import Range
from dpbench.search.space import Space
from dpbench.trial import Trial

if TYPE_CHECKING:
    from dpbench.privacy.selection import Run
    from dpbench.store.private_searches import PrivateSearch

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
    if isinstance(mean, bool) or not isinstance(mean, int | float | None):
        raise BadInput(f"Expected search={mean!r} to be the mean number of runs.")
    named = run_count.DEFAULT if distribution in (None, True) else distribution
    count = RunCount(distribution=named, mean=float(MEAN if mean is None else mean))
    if total_epsilon is not None:
        number = isinstance(total_epsilon, int | float) and not isinstance(total_epsilon, bool)
        if not (number and 0 < total_epsilon < math.inf):
            raise BadInput(f"Expected total_epsilon={total_epsilon!r} > 0 and finite.")
        for name, flag in _OWN_AXES.items():
            if getattr(grid, name) is not None:
                raise BadInput(f"Expected {flag} or --total-epsilon, not both.")
    _refuse(grid)
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


def priced(asked: Request) -> "PrivateSearch":
    """The search with its noise and what it spends, before it is drawn.

    Raises:
        BadInput: No noise reaches the epsilon, or a batch is larger than the training set.
    """
    from dpbench.privacy import accounting, selection
    from dpbench.store.private_searches import PrivateSearch

    delta = asked.grid.delta
    noises = _solved(asked)
    runs = _runs(asked, noises)
    every = [run.noise_multiplier for run in runs]
    most = every if asked.solved else asked.grid.noise_multiplier
    highest = most.high if isinstance(most, Range) else max(most or every)
    return PrivateSearch(
        asked=asked.asked,
        distribution=asked.count.distribution,
        mean=asked.count.mean,
        sampling=asked.grid.sampling[0],
        delta=delta,
        epsilon=selection.epsilon(runs, asked.count, delta=delta),
        epsilon_of_run=max(
            accounting.spent(
                noise_multiplier=run.noise_multiplier,
                sample_rate=run.sample_rate,
                steps=run.steps,
                delta=delta,
            ).epsilon
            for run in selection.worst(runs)
        ),
        noises=[(*schedule, noise) for schedule, noise in noises.items()],
        noise_multipliers=(min(every), float(highest)),
        schedules=_in_words(asked),
        examples=datasets.train_examples(asked.dataset, int(asked.grid.validation_examples)),
        held_out=asked.held_out,
        score_noise=selection.score_noise(runs) if asked.private_scores else None,
        points=(),
        seeds=(),
        score_draws=(),
    )


def _solved(asked: Request) -> dict[tuple[int, int], float]:
    """The noise of each batch size and number of epochs; empty where it is not solved for."""
    if not asked.solved:
        return {}
    from dpbench.privacy import calibration, selection

    of = {each: _rate_and_steps(asked, *each) for each in asked.schedules}
    if asked.total_epsilon is not None:
        noises = selection.noise_multipliers_for(
            asked.total_epsilon, set(of.values()), asked.count, delta=asked.grid.delta
        )
        return {each: noises[schedule] for each, schedule in of.items()}
    (target,) = asked.grid.target_epsilon or ()
    shuffled = asked.grid.sampling[0] == "shuffle"
    return {
        (batch_size, epochs): calibration.noise_multiplier_for(
            target_epsilon=target,
            sample_rate=rate,
            steps=steps,
            delta=asked.grid.delta,
            shuffled_epochs=epochs if shuffled else None,
        )
        for (batch_size, epochs), (rate, steps) in of.items()
    }


def _runs(asked: Request, noises: Mapping[tuple[int, int], float]) -> "list[Run]":
    """Every run that may be drawn; of a range of noise, those with the least."""
    from dpbench.privacy.selection import Run

    drawn = asked.grid.noise_multiplier
    values = [drawn.low] if isinstance(drawn, Range) else list(drawn or ())
    found = []
    for schedule in asked.schedules:
        rate, steps = _rate_and_steps(asked, *schedule)
        found += [
            Run(noise_multiplier=float(noise), sample_rate=rate, steps=steps)
            for noise in ([noises[schedule]] if noises else values)
        ]
    return found


def _rate_and_steps(asked: Request, batch_size: int, epochs: int) -> tuple[float, int]:
    """Of a run's steps in which an example may take part, as `selection` takes them.

    Of shuffled batches, it takes part in one an epoch: as in a step with every example.
    """
    of = (asked.dataset, batch_size, int(asked.grid.validation_examples))
    steps = datasets.steps_per_epoch(*of)
    if asked.grid.sampling[0] == "shuffle":
        return 1.0, epochs
    return datasets.sample_rate(*of), epochs * steps


def _in_words(asked: Request) -> str:
    sizes, epochs = (
        " or ".join(f"{each:,}" for each in asked.grid.values(name))
        for name in ("batch_size", "epochs")
    )
    kind = "Poisson-sampled" if asked.grid.sampling[0] == "poisson" else "shuffled"
    size = "expected size" if kind == "Poisson-sampled" else "size"
    return f"{kind} batches of {size} {sizes} ({epochs} epochs)"


def trials(
    asked: Request, search: "PrivateSearch", *, fastest: Callable[[Trial], str]
) -> tuple[Trial, ...]:
    """The runs that the search has drawn.

    Raises:
        BadInput: The program or the user's code has changed since, or a setting cannot be trained.
    """
    space = asked.space
    noises = {(batch_size, epochs): noise for batch_size, epochs, noise in search.noises}
    known: Sequence[str | None] = search.engines or [None] * len(search.seeds)
    found = []
    for point, seed, engine in zip(search.points, search.seeds, known, strict=True):
        setting = searched_grid.at(asked.grid, space.at(point))
        ((batch_size,), (epochs,)) = (setting.values(name) for name in ("batch_size", "epochs"))
        own: dict[str, Any] = {"seed": seed, "target_epsilon": None}
        if engine is not None:
            own["engine"] = engine
        if noises:
            own["noise_multiplier"] = noises[batch_size, epochs]
        found += grids.trials([replace(setting, **own)], asked.dataset, fastest=fastest)
    ids = [trial.trial_id for trial in found]
    if len(ids) != len(search.seeds) or (search.trial_ids and ids != list(search.trial_ids)):
        raise BadInput(
            "This store has drawn the runs of this search, and the code, the data or dpbench has "
            "changed since. Name another folder with --out for a new search; its epsilon adds."
        )
    return tuple(found)


def drawn(
    asked: Request, root: Path, *, fastest: Callable[[Trial], str]
) -> "tuple[PrivateSearch, tuple[Trial, ...]]":
    """The search and its runs: those of the store or, if it has none, a new draw that it keeps.

    Args:
        asked: What is asked for.
        root: The store; its folders are there.
        fastest: As of `grid.trials`.

    Raises:
        BadInput: As of `priced` and `trials`.
        StoreError: The store cannot be read or written to.
    """
    from dpbench.search import private_draw
    from dpbench.store import history, private_searches

    search = private_searches.of_request(root, asked.asked)
    if search is None:
        draw = private_draw.draw(asked.count, len(asked.space))
        search = private_searches.add(
            root,
            replace(
                priced(asked), points=draw.points, seeds=draw.seeds, score_draws=draw.score_draws
            ),
        )
    if set(search.trial_ids) & history.dropped(history.read(root)):
        raise BadInput(
            f"Runs of this search were removed from {root}: to train them again, with other noise, "
            "is not covered. Name another folder with --out for a new search; its epsilon adds."
        )
    runs = trials(asked, search, fastest=fastest)
    if runs and not search.trial_ids:
        search = replace(
            search,
            engines=tuple(run.engine for run in runs),
            trial_ids=tuple(run.trial_id for run in runs),
        )
        private_searches.note(root, search)
    return search, runs
