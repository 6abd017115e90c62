"""Every engine on one model: whether it is right, and the time of its step."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from dpbench import engines
from dpbench.errors import BadInput
from dpbench.execution import user_checks
from dpbench.trial import NON_PRIVATE, Trial, Workload

if TYPE_CHECKING:
    from dpbench.datasets import Data
    from dpbench.engines.preflight import Preflight

PAIRS = 3  # of blocks, of the engine's steps and of the non-private ones


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCheck:
    """What the preflight says of an engine.

    Attributes:
        engine: Its name.
        right: Whether it computes what it claims on the model.
        reason: Why it is not used; None where it is.
        layer: Path of the layer that the reason names; None where it names none.
        remedy: What to do about it; None where nothing is known.
        replaced_by: The engine that takes its place for this model, whose step is not timed twice.
        seconds_per_step: None where the step was not timed.
        overhead: The step's time over the non-private one's, as the median over alternated pairs.
    """

    engine: str
    right: bool
    reason: str | None = None
    layer: str | None = None
    remedy: str | None = None
    replaced_by: str | None = None
    seconds_per_step: float | None = None
    overhead: float | None = None


def fastest_right(trial: Trial, data_root: Path) -> str:
    """The fastest engine that can train the trial, and is right for its model.

    As `engines.fastest`, and for the user's own models, data and losses after the preflight.

    Raises:
        BadInput: There is none.
    """
    if not _is_users(trial):
        return engines.fastest(trial)
    return _fastest_right(_workload(trial), trial.private, trial.clipping, data_root)


def refuse(trials: Iterable[Trial], data_root: Path) -> None:
    """Raises BadInput where an engine is not right for a model that no test of dpbench covers.

    Each of the user's models, datasets and losses is checked once with each engine and clipping
    rule, on the CPU. Trials of what is built in are left out: tests hold every engine against that.
    """
    for trial in trials:
        if _is_users(trial):
            _refuse(_workload(trial), trial.engine, trial.clipping, data_root)


def refuse_timed(names: Iterable[str], workload: Workload, data_root: Path) -> None:
    """As `refuse`, of engines that are timed; the tutorial's loops are none."""
    known = [name for name in names if name in engines.names()]
    refuse([engines.timing_trial(name, workload) for name in known], data_root)


def right(names: Sequence[str], workload: Workload, data_root: Path) -> list[str]:
    """The engines that are right for a user's model; all of them where all is built in.

    Raises:
        BadInput: No private one is; the reason is that of the first.
    """
    if not workload.of_user:
        return list(names)
    checked = _preflight(workload, data_root)
    found = [name for name in names if checked.refusal(_trial(workload, name, "flat")) is None]
    private = [name for name in names if name in engines.private_names()]
    if not set(private) & set(found):
        refuse_timed(private, workload, data_root)
    return found


def _is_users(trial: Trial) -> bool:
    return _workload(trial).of_user


def _workload(trial: Trial) -> Workload:
    return Workload.of(trial, 1)


@cache
def _fastest_right(workload: Workload, private: bool, clipping: str, data_root: Path) -> str:
    names = engines.private_names() if private else engines.non_private_names()
    trial = _trial(workload, names[0], clipping)
    return _preflight(workload, data_root).fastest(trial)


@cache
def _refuse(workload: Workload, engine: str, clipping: str, data_root: Path) -> None:
    from dpbench.engines import preflight as preflights

    preflights.refuse(_trial(workload, engine, clipping), _preflight(workload, data_root))


def _trial(workload: Workload, engine: str, clipping: str) -> Trial:
    return replace(engines.timing_trial(engine, workload), clipping=clipping)


@lru_cache(maxsize=1)  # it holds the gradients of examples
def _preflight(workload: Workload, data_root: Path) -> "Preflight":
    from dpbench.datasets import loading

    user_checks.check([engines.timing_trial(NON_PRIVATE, workload)], data_root)
    return preflight(workload, loading.load(workload.dataset, data_root, "cpu"))


def preflight(workload: Workload, data: "Data") -> "Preflight":
    """The preflight of the workload's model on the first training examples.

    Raises:
        BadInput: The model does not fit the data.
    """
    import torch

    from dpbench import datasets, losses, models
    from dpbench.engines.preflight import Preflight, checks

    count = min(checks.EXAMPLES, data.train_examples)
    data = models.taken(workload.model, data, examples=count)
    few = torch.arange(count, device=data.device)
    return Preflight(
        lambda: models.build(workload.model, workload.dataset, seed=0, device=data.device),
        *data.batch(few),
        loss=losses.of(engines.timing_trial(NON_PRIVATE, workload)),
        classes=datasets.spec(workload.dataset).classes,
    )


def check(
    workload: Workload, data: "Data", *, said: Callable[[str], None] = lambda _: None
) -> list[EngineCheck]:
    """Of every engine, in their order.

    Args:
        workload: The model, the dataset and the batch size that steps are timed at.
        data: The dataset, on the device to compute on.
        said: Is given the name of each engine before it is checked.

    Raises:
        BadInput: The model does not fit the data.
    """
    checked = preflight(workload, data)
    found = []
    for name in engines.names():
        said(name)
        found.append(_check(engines.timing_trial(name, workload), checked, workload, data))
    return found


def _check(trial: Trial, checked: "Preflight", workload: Workload, data: "Data") -> EngineCheck:
    name = trial.engine
    try:
        computes = checked.implementation(trial)
    except BadInput:  # the refusal says the same
        computes = name
    if computes != name:
        return EngineCheck(engine=name, right=False, replaced_by=computes)
    refusal = checked.refusal(trial)
    if refusal is not None:
        return EngineCheck(
            engine=name,
            right=False,
            reason=refusal.reason,
            layer=refusal.layer,
            remedy=refusal.remedy,
        )
    seconds, overhead = _timed(name, workload, data)
    return EngineCheck(engine=name, right=True, seconds_per_step=seconds, overhead=overhead)


def _timed(engine: str, workload: Workload, data: "Data") -> tuple[float, float]:
    """The median time of a step in seconds, and its ratio to the non-private step."""
    from dpbench.measurement import step_timing

    pairs = step_timing.measure(engine, workload, data, pairs=PAIRS)
    return (
        median(each.seconds_per_step for each in pairs),
        1.0
        if engine == NON_PRIVATE
        else median(each.seconds_per_step / each.baseline_seconds_per_step for each in pairs),
    )


def fastest(checks: Iterable[EngineCheck]) -> EngineCheck | None:
    """The private engine that is right and takes the least time; None where there is none."""
    right = [each for each in checks if each.right and engines.spec(each.engine).private]
    return min(right, key=lambda each: each.overhead or 0, default=None)
