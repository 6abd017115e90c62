"""The runs of a private search: drawn once, kept by the store, and the same when it goes on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench.errors import BadInput
from dpbench.execution import grid_trials, private_price, searched_grid
from dpbench.execution.private_request import Request
from dpbench.trial import Trial

if TYPE_CHECKING:
    from dpbench.store.private_searches import PrivateSearch


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
        found += grid_trials.trials([replace(setting, **own)], asked.dataset, fastest=fastest)
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
        fastest: As of `grid_trials.trials`.

    Raises:
        BadInput: As of `private_price.priced` and `trials`.
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
                private_price.priced(asked),
                points=draw.points,
                seeds=draw.seeds,
                score_draws=draw.score_draws,
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
