"""Axes -> trials. An axis is a list of values, a grid their product, a sweep a union of grids.

Axes come from three places, the first that names one winning: flags, a TOML file (each `[[grid]]`
table before the top level), and the defaults for the dataset. No torch.
"""

import difflib
import functools
import itertools
import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpbench import datasets, models, question
from dpbench.errors import BadInput
from dpbench.trial import (
    ENGINES,
    NON_PRIVATE,
    NON_PRIVATE_ENGINES,
    SAMPLINGS,
    EngineName,
    Sampling,
    Trial,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The axes of one grid; its trials are the product of them all.

    Attributes:
        noise_multiplier: Standard deviation of the noise over max_grad_norm; 0 clips only.
        target_epsilon: Instead of noise_multiplier, which is then solved for each.
        max_grad_norm: L2 bounds on an example's gradient.
        batch_size: Expected sizes of Poisson batches.
        learning_rate: None takes `default_learning_rate` for each batch size.
        momentum: Of SGD.
        seed: Each arm is trained once with each.
        model: What is trained; None takes the dataset's default model.
        engine: How steps are computed. Where a non-private engine is among them, `baseline` adds
            `non-private` alone, at the same learning rates.
        sampling: How batches are drawn.
        epochs: Of every trial.
        validation_examples: Held out of every trial's training set; 0 for none.
        delta: Of every private trial.
        baseline: Whether to add the non-private trials of each batch size, momentum, seed and
            sampling: at `baseline_learning_rates`, by the fastest engine, or at the learning rates
            that are asked for.
        clip_only: Whether to add the trial without noise of each private one.
        fresh_noise: Whether the private trials draw their noise from the system.

    Raises:
        BadInput: An axis is empty or repeats a value, or noise_multiplier and target_epsilon are
            both given.
    """

    noise_multiplier: tuple[float, ...] | None = None
    target_epsilon: tuple[float, ...] | None = None
    max_grad_norm: tuple[float, ...]
    batch_size: tuple[int, ...]
    learning_rate: tuple[float, ...] | None = None
    momentum: tuple[float, ...] = (0.0,)
    seed: tuple[int, ...] = (0,)
    model: tuple[str, ...] | None = None
    engine: tuple[EngineName, ...] = ("fused",)
    sampling: tuple[Sampling, ...] = ("poisson",)
    epochs: int
    validation_examples: int = 0
    delta: float = 1e-5
    baseline: bool = True
    clip_only: bool = False
    fresh_noise: bool = False

    def __post_init__(self) -> None:
        for name in AXES:
            values = getattr(self, name)
            if values == ():
                raise BadInput(f"Expected {name} to hold at least one value, not [].")
            ((most, times),) = Counter(values or (None,)).most_common(1)
            if times > 1:
                raise BadInput(f"Expected each {name} once, not {most!r} twice.")
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            given = "neither" if self.noise_multiplier is None else "both"
            raise BadInput(f"Expected noise_multiplier or target_epsilon, and {given} is given.")
        if self.validation_examples < 0:
            raise BadInput(f"Expected validation_examples={self.validation_examples} >= 0.")


FLOAT_AXES = ("noise_multiplier", "target_epsilon", "max_grad_norm", "learning_rate", "momentum")
INTEGER_AXES = ("batch_size", "seed")
WORD_AXES: Mapping[str, Sequence[str]] = {
    "model": models.names(),
    "engine": ENGINES,
    "sampling": SAMPLINGS,
}
AXES = (*FLOAT_AXES, *INTEGER_AXES, *WORD_AXES)
SWITCHES = ("baseline", "clip_only", "fresh_noise")
FASTEST_NON_PRIVATE: EngineName = "fused-non-private"  # with the gradients of `non-private`
SCALARS = ("epochs", "validation_examples", "delta", *SWITCHES)


def defaults(dataset: str) -> Mapping[str, Any]:
    """The axes of the default sweep on a dataset."""
    return datasets.spec(dataset).sweep


def default_learning_rate(batch_size: int, *, private: bool) -> float:
    """The learning rate where none is asked.

    Private, it grows with the batch size: the noise that a step adds to the weights is
    learning_rate x noise_multiplier x max_grad_norm / batch_size, so a larger batch allows a longer
    step, and needs it to go as far in its fewer steps. Non-private, the loss's curvature is the
    limit, and 0.1 is the rate of Opacus' published baseline.
    """
    return batch_size / 1024 if private else 0.1


def baseline_learning_rates(batch_size: int) -> Sequence[float]:
    """The rates at which the baseline is tried where no learning rate is asked for.

    Measured for the tutorial's CNN, ten epochs of MNIST and twenty of the digits, two or three
    seeds. The best mean is at 0.1 for batch sizes of 64 and more; at 16, 0.025 to 0.1 are alike.
    At 0.2 some seeds stay at chance, and some diverge at batch size 64 and less.
    """
    return (0.025, 0.05, 0.1) if batch_size <= 64 else (0.05, 0.1)


def read_text(path: Path) -> str:
    """What the sweep file says; read once, since it may be a pipe.

    Raises:
        BadInput: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"Cannot read the sweep file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The sweep file {path} is not TOML: {error}.") from error


def parse(text: str, path: Path | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A sweep file's top level and its `[[grid]]` tables (one empty table where it has none).

    Args:
        text: What it says.
        path: Where, for messages; None where it says nothing.

    Raises:
        BadInput: It is no TOML, or has a key that is not known.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"The sweep file {path} is not TOML: {error}.") from error
    tables = content.pop("grid", [{}])
    if not (isinstance(tables, list) and tables and all(isinstance(t, dict) for t in tables)):
        raise BadInput(f"Expected grid in {path} to be one or more [[grid]] tables.")
    known = [*AXES, *SCALARS]
    for keys, allowed in (
        (content, ["dataset", "grid", *known, *question.KEYS]),
        *((t, known) for t in tables),
    ):
        for key in keys:
            if key not in allowed:
                raise BadInput(f"Unknown key {key!r} in {path}: {_nearest(key, allowed)}")
    return content, tables


def shared(top: Mapping[str, Any]) -> dict[str, Any]:
    """Of a sweep file's top level, the axes and values that hold for every grid."""
    return {name: value for name, value in top.items() if name in (*AXES, *SCALARS)}


def grid(*layers: Mapping[str, Any]) -> Grid:
    """The grid whose every axis is the one of the first layer that names it.

    noise_multiplier and target_epsilon are two names of one axis: either hides the other in the
    layers below. A single value stands for a list of one.

    Raises:
        BadInput: A value is of the wrong type, or the grid is not valid.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        new = {key: value for key, value in layer.items() if key not in merged}
        if "noise_multiplier" in merged or "target_epsilon" in merged:
            new = {
                key: value
                for key, value in new.items()
                if key not in ("noise_multiplier", "target_epsilon")
            }
        merged |= new
    return Grid(**{name: _typed(name, value) for name, value in merged.items()})


def trials(grids: Iterable[Grid], dataset: str) -> list[Trial]:
    """The union of the grids' trials, each once, baselines first.

    Raises:
        BadInput: A value is out of range, a target epsilon cannot be reached, or a model cannot
            take the dataset's inputs.
    """
    every = [trial for each in grids for trial in _product(each, dataset)]
    for model in {trial.model for trial in every}:
        models.refuse(model, dataset)
    for trial in every:
        datasets.steps_per_epoch(  # raises where the batch is too large
            dataset, trial.batch_size, trial.validation_examples or 0
        )
    return sorted(dict.fromkeys(every), key=lambda trial: trial.private)


def _product(grid: Grid, dataset: str) -> Iterable[Trial]:
    for model, sampling, batch_size, momentum, seed in itertools.product(
        grid.model or (datasets.spec(dataset).model,),
        grid.sampling,
        grid.batch_size,
        grid.momentum,
        grid.seed,
    ):
        shared = functools.partial(
            Trial,
            dataset=dataset,
            model=model,
            sampling=sampling,
            batch_size=batch_size,
            momentum=momentum,
            epochs=grid.epochs,
            validation_examples=grid.validation_examples or None,
            seed=seed,
        )
        for engine, learning_rate in _baselines(grid, batch_size):
            yield shared(
                engine=engine,
                noise_multiplier=None,
                max_grad_norm=None,
                learning_rate=learning_rate,
                delta=None,
            )
        private_engines = [engine for engine in grid.engine if engine not in NON_PRIVATE_ENGINES]
        if not private_engines:
            continue
        for engine, noise_multiplier, max_grad_norm, learning_rate in itertools.product(
            private_engines,
            _noise_multipliers(grid, dataset, batch_size, sampling),
            grid.max_grad_norm,
            _learning_rates(grid, batch_size, private=True),
        ):
            yield shared(
                engine=engine,
                noise_multiplier=noise_multiplier,
                max_grad_norm=max_grad_norm,
                learning_rate=learning_rate,
                delta=grid.delta,
                noise_source="system" if grid.fresh_noise else None,
            )


def _baselines(grid: Grid, batch_size: int) -> Iterable[tuple[EngineName, float]]:
    """Engines and learning rates of the non-private trials."""
    named = [engine for engine in grid.engine if engine in NON_PRIVATE_ENGINES]
    if grid.baseline and not named and grid.learning_rate is None:
        return [(FASTEST_NON_PRIVATE, rate) for rate in baseline_learning_rates(batch_size)]
    baseline = [NON_PRIVATE] if grid.baseline else []
    rates = _learning_rates(grid, batch_size, private=False)
    return itertools.product(dict.fromkeys([*baseline, *named]), rates)


def _learning_rates(grid: Grid, batch_size: int, *, private: bool) -> Sequence[float]:
    if grid.learning_rate is not None:
        return grid.learning_rate
    return [default_learning_rate(batch_size, private=private)]


def _noise_multipliers(
    grid: Grid, dataset: str, batch_size: int, sampling: Sampling
) -> Sequence[float]:
    clip_only = [0.0] if grid.clip_only else []
    if grid.noise_multiplier is not None:
        return list(dict.fromkeys([*clip_only, *grid.noise_multiplier]))
    targets = grid.target_epsilon or ()
    if not 0 < grid.delta < 1:
        raise BadInput(f"Expected delta={grid.delta!r} > 0 and < 1.")
    for target_epsilon in targets:
        if not 0 < target_epsilon < math.inf:
            raise BadInput(f"Expected target_epsilon={target_epsilon!r} > 0 and finite.")
    if not targets:
        return clip_only
    from dpbench.privacy import calibration  # takes a second to import

    held_out = grid.validation_examples
    return clip_only + [
        calibration.noise_multiplier_for(
            target_epsilon=target_epsilon,
            sample_rate=datasets.sample_rate(dataset, batch_size, held_out),
            steps=grid.epochs * datasets.steps_per_epoch(dataset, batch_size, held_out),
            delta=grid.delta,
            shuffled_epochs=grid.epochs if sampling == "shuffle" else None,
        )
        for target_epsilon in targets
    ]


def _nearest(word: str, allowed: Sequence[str]) -> str:
    """The remedy for a misspelt word."""
    nearest = difflib.get_close_matches(word.replace("-", "_"), allowed, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}?" if nearest else f"use one of {', '.join(allowed)}."


def _typed(name: str, value: Any) -> Any:
    """The value of a Grid's field from that of a TOML key or a flag."""
    if name in SCALARS:
        return _scalar(name, value)
    values = tuple(_scalar(name, each) for each in value) if isinstance(value, list) else None
    return (_scalar(name, value),) if values is None else values


def _scalar(name: str, value: Any) -> Any:
    if name in SWITCHES:
        if not isinstance(value, bool):
            raise BadInput(f"Expected {name}={value!r} to be true or false.")
        return value
    if name in WORD_AXES:
        if value not in WORD_AXES[name]:
            raise BadInput(f"Unknown {name} {value!r}: {_nearest(str(value), WORD_AXES[name])}")
        return value
    whole = name in (*INTEGER_AXES, "epochs", "validation_examples")
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise BadInput(f"Expected {name}={value!r} to be a {'whole ' if whole else ''}number.")
    return value if whole else float(value)
