"""Grids -> trials. The trials of a grid are the product of its axes, those of a sweep a union."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from dpbench import datasets, engines, losses, models, optimizers, user_code
from dpbench.errors import BadInput
from dpbench.execution.grid import AUTO, AXES, Grid
from dpbench.execution.grid_models import models_of
from dpbench.trial import NON_PRIVATE, Sampling, Trial


def trials(
    grids: Iterable[Grid],
    dataset: str,
    *,
    fastest: Callable[[Trial], str] = engines.fastest,
) -> list[Trial]:
    """The union of the grids' trials, each once, baselines first.

    Args:
        grids: Their axes.
        dataset: Its name.
        fastest: Picks the engine of a trial for which none is named.

    Raises:
        BadInput: A value is out of range, a target epsilon cannot be reached, or a model cannot
            take the dataset's inputs.
    """
    every = [each.with_defaults(dataset) for each in grids]
    return _once(
        [
            *(trial for each in every for trial in _baselines(each, dataset, fastest)),
            *(trial for each in every for trial in _private(each, dataset, fastest)),
        ]
    )


def baselines(
    grids: Iterable[Grid],
    dataset: str,
    *,
    fastest: Callable[[Trial], str] = engines.fastest,
) -> list[Trial]:
    """The non-private trials among `trials`."""
    every = (each.with_defaults(dataset) for each in grids)
    return _once([trial for each in every for trial in _baselines(each, dataset, fastest)])


def _once(trials: Sequence[Trial]) -> list[Trial]:
    """Each trial once.

    Raises:
        BadInput: A batch is larger than its training set.
    """
    for trial in trials:
        datasets.steps_per_epoch(trial.dataset, trial.batch_size, trial.validation_examples or 0)
    return list(dict.fromkeys(trials))


def _shared(
    grid: Grid, dataset: str, fastest: Callable[[Trial], str]
) -> Iterable[tuple[Callable[..., Trial], str, int, Sampling]]:
    """What makes a trial of what private ones and baselines share, with some of that.

    Those are its optimizer, batch size and sampling.
    """
    loss = losses.introduce(grid.loss) if user_code.is_reference(grid.loss) else None
    every_model = list(models_of(grid, dataset))
    for of_model in every_model:
        models.refuse(of_model["model"], dataset)
    for of_model, sampling, batch_size, optimizer, momentum, seed in itertools.product(
        every_model,
        grid.sampling,
        grid.values("batch_size"),
        grid.optimizer,
        grid.values("momentum"),
        grid.seed,
    ):
        shared = functools.partial(
            _trial,
            fastest=fastest,
            dataset=dataset,
            data_hash=datasets.data_hash(dataset),
            **of_model,
            loss=None if loss is None else loss.name,
            loss_hash=None if loss is None else loss.hash,
            sampling=sampling,
            batch_size=batch_size,
            optimizer=optimizer,
            momentum=momentum,
            epochs=AXES["epochs"].only(grid.values("epochs")),
            validation_examples=int(grid.validation_examples) or None,
            seed=seed,
        )
        yield shared, optimizer, batch_size, sampling


def _baselines(grid: Grid, dataset: str, fastest: Callable[[Trial], str]) -> Iterable[Trial]:
    for shared, optimizer, batch_size, _ in _shared(grid, dataset, fastest):
        for engine, learning_rate in _baseline_rates(grid, optimizer, batch_size):
            yield shared(
                engine=engine,
                noise_multiplier=None,
                max_grad_norm=None,
                learning_rate=learning_rate,
                delta=None,
            )


def _private(grid: Grid, dataset: str, fastest: Callable[[Trial], str]) -> Iterable[Trial]:
    private_engines = [each for each in grid.engine if each not in engines.non_private_names()]
    if not private_engines:
        return
    for shared, optimizer, batch_size, sampling in _shared(grid, dataset, fastest):
        for engine, rule, noise_multiplier, max_grad_norm, learning_rate in itertools.product(
            private_engines,
            grid.clipping,
            _noise_multipliers(grid, dataset, batch_size, sampling),
            grid.values("max_grad_norm"),
            grid.values("learning_rate") or (optimizers.spec(optimizer).learning_rate(batch_size),),
        ):
            yield shared(
                engine=engine,
                noise_multiplier=noise_multiplier,
                max_grad_norm=max_grad_norm,
                clipping=rule,
                learning_rate=learning_rate,
                delta=grid.delta,
                noise_source="system" if grid.fresh_noise else None,
            )


def _trial(
    *,
    fastest: Callable[[Trial], str],
    engine: str,
    noise_multiplier: float | None,
    **fields: Any,
) -> Trial:
    """The trial by that engine, or by the fastest one that can train it.

    Raises:
        BadInput: A field is out of its range, or the engine cannot train the trial.
    """
    private = noise_multiplier is not None
    if engine == AUTO:
        engine = (engines.private_names() if private else engines.non_private_names())[0]
        trial = Trial(engine=engine, noise_multiplier=noise_multiplier, **fields)
        return replace(trial, engine=fastest(trial))
    trial = Trial(engine=engine, noise_multiplier=noise_multiplier, **fields)
    engines.check(trial)
    return trial


def _baseline_rates(grid: Grid, optimizer: str, batch_size: int) -> Iterable[tuple[str, float]]:
    """Engines and learning rates of the non-private trials."""
    named = [engine for engine in grid.engine if engine in engines.non_private_names()]
    rates = optimizers.spec(optimizer).baseline_learning_rates(batch_size)
    given = grid.values("learning_rate")
    if grid.baseline and not named and not given:
        return [(AUTO, rate) for rate in rates]
    baseline = [NON_PRIVATE] if grid.baseline else []
    return itertools.product(dict.fromkeys([*baseline, *named]), given or rates[-1:])


def _noise_multipliers(
    grid: Grid, dataset: str, batch_size: int, sampling: Sampling
) -> Sequence[float]:
    clip_only = [0.0] if grid.clip_only else []
    if grid.noise_multiplier is not None:
        return list(dict.fromkeys([*clip_only, *grid.values("noise_multiplier")]))
    targets = grid.target_epsilon or ()
    if not 0 < grid.delta < 1:
        raise BadInput(f"Expected delta={grid.delta!r} > 0 and < 1.")
    for target_epsilon in targets:
        if not 0 < target_epsilon < math.inf:
            raise BadInput(f"Expected target_epsilon={target_epsilon!r} > 0 and finite.")
    if not targets:
        return clip_only
    from dpbench.privacy import calibration  # takes a second to import

    epochs = AXES["epochs"].only(grid.values("epochs"))
    held_out = int(grid.validation_examples)
    return clip_only + [
        calibration.noise_multiplier_for(
            target_epsilon=target_epsilon,
            sample_rate=datasets.sample_rate(dataset, batch_size, held_out),
            steps=epochs * datasets.steps_per_epoch(dataset, batch_size, held_out),
            delta=grid.delta,
            shuffled_epochs=epochs if sampling == "shuffle" else None,
        )
        for target_epsilon in targets
    ]
