"""A grid that is searched: its space, the grid of each setting, and its baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpbench import engines, user_code
from dpbench.execution import grid_trials
from dpbench.execution.axes import Axis
from dpbench.execution.grid import AXES, Grid
from dpbench.search import sobol
from dpbench.search.ranges import Range
from dpbench.search.space import Space, Values
from dpbench.trial import Trial

_ARGUMENT = "model_args."  # before the name of an argument that is a dimension


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A setting at one target: what is compared with others.

    Attributes:
        group: Equal for candidates that early stopping compares: the target, the model's function,
            the sampling and the batch size's power of two. A large batch takes few steps in a short
            training, so that it looks worse than a small one that it overtakes later.
        target: Of the group: the epsilon or the noise multiplier that it is tried at.
        label: The target, the model and the sampling, for the user.
        trials: The setting's private ones: of each seed, and of each engine that is named.
    """

    group: tuple[Any, ...]
    target: Any
    label: str
    trials: tuple[Trial, ...]


def space(grid: Grid) -> Space:
    """What a search of the grid draws: every axis with a range or several values.

    Seeds, engines, target epsilons and a list of noise multipliers are none of them: each setting
    is run with all of these.

    Args:
        grid: With its defaults.
    """
    found: dict[str, Values] = {}
    for axis in AXES.values():
        value = getattr(grid, axis.name)
        if axis.name == "model_args":
            of_arguments = sorted((value or {}).items())
            found |= {f"{_ARGUMENT}{name}": values for name, values in of_arguments}
        elif isinstance(value, Range) or (_drawn(axis) and isinstance(value, tuple)):
            found[axis.name] = value
    several = {k: v for k, v in found.items() if isinstance(v, Range) or len(v) > 1}
    return Space(dimensions=several)


def _drawn(axis: Axis) -> bool:
    return axis.searched and axis.name != "noise_multiplier"


def at(grid: Grid, setting: Mapping[str, Any]) -> Grid:
    """The grid of one setting, without baselines.

    Args:
        grid: That was searched, with its defaults.
        setting: Of its space.
    """
    axes = {name: value for name, value in setting.items() if not name.startswith(_ARGUMENT)}
    arguments = dict(grid.model_args or {}) | {
        name.removeprefix(_ARGUMENT): (value,)
        for name, value in setting.items()
        if name.startswith(_ARGUMENT)
    }
    names = (axes["model"],) if "model" in axes else grid.model or ()
    takes_arguments = any(map(user_code.is_reference, names))
    private = [each for each in grid.engine if each not in engines.non_private_names()]
    own = {
        "model_args": arguments if arguments and takes_arguments else None,
        "engine": private or grid.engine,
        "baseline": False,
    }
    return _with(grid, axes | own)


def settings(grid: Grid, count: int) -> list[Grid]:
    """The grids of so many settings, each once; the first of more are these.

    Args:
        grid: With its defaults.
        count: At least 1. Fewer are distinct where lists are short.
    """
    searched = space(grid)
    points: Sequence[Sequence[float]] = sobol.points(len(searched), count) if searched else [[]]
    drawn = (at(grid, searched.at(point)) for point in points)
    # by their texts: a grid holds mappings, which have no hash
    return list({repr(setting): setting for setting in drawn}.values())


def candidates(grid: Grid, dataset: str, *, fastest: Callable[[Trial], str]) -> list[Candidate]:
    """The setting at each of its targets.

    Args:
        grid: Of one setting.
        dataset: Its name.
        fastest: As of `grid_trials.trials`.
    """
    parts = [*(grid.model or ()), *(each for each in grid.sampling if each != "poisson")]
    found = []
    for target, label, each in at_each_target(grid):
        trials = grid_trials.trials([each], dataset, fastest=fastest)
        if not trials:
            continue
        group = (target, grid.model, grid.sampling, trials[0].batch_size.bit_length())
        shown = " ".join([*map(user_code.shown, parts), label])
        found.append(Candidate(group=group, target=target, label=shown, trials=tuple(trials)))
    return found


def at_each_target(grid: Grid) -> list[tuple[float, str, Grid]]:
    """The targets, each with its name and its grid."""
    if set(grid.engine) <= set(engines.non_private_names()):
        return [(0.0, "without privacy", grid)]
    names = {"target_epsilon": "epsilon", "noise_multiplier": "noise"}
    return [
        (target, f"at {noun} {target:g}", _with(grid, {name: target}))
        for name, noun in names.items()
        for target in grid.values(name)
    ]


def baselines(grid: Grid) -> Grid:
    """The grid whose baselines are those of a search.

    Their learning rates are the optimizer's own, unless one alone is given; the batch size is the
    smallest, which wastes least, and the epochs are the most. Of a range of momentums it is the
    lowest, of one of a model's argument both ends.

    Args:
        grid: With its defaults.
    """
    rates = grid.learning_rate
    ends = {
        name: (values.low, values.high) if isinstance(values, Range) else values
        for name, values in (grid.model_args or {}).items()
    }
    momentum = grid.momentum
    own = {
        "batch_size": _end(min, grid.batch_size),
        "epochs": _end(max, grid.epochs),
        "momentum": momentum.low if isinstance(momentum, Range) else momentum,
        "learning_rate": rates if isinstance(rates, tuple) and len(rates) == 1 else None,
        "model_args": ends or None,
    }
    return _with(grid, own)


def _with(grid: Grid, axes: Mapping[str, Any]) -> Grid:
    """The grid with other values of these axes, one of each or several."""
    return replace(grid, **axes)


def _end(which: Callable[..., Any], values: Any) -> Any:
    if isinstance(values, Range):
        return which(values.low, values.high)
    return which(values) if isinstance(values, tuple) else values
