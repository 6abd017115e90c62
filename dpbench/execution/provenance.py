"""The environment that a row records: implementation, hardware, versions."""

from dataclasses import replace

from dpbench import engines, models
from dpbench.engines import EngineSpec
from dpbench.execution.backend import Workers
from dpbench.observations import Environment
from dpbench.trial import Trial


def environment(asked: Trial | str, workers: Workers, *, concurrent: int) -> Environment:
    """The environment of a trial or timing on the first of the devices.

    Args:
        asked: The trial, or the name of a tutorial's loop, of TUTORIAL_ARMS.
        workers: How trials are run.
        concurrent: Trials that run at the same time.

    Raises:
        BadInput: The model cannot be built, or no engine can train it.
    """
    if not isinstance(asked, Trial):
        return _described(asked, workers, concurrent)
    model = models.build(asked.model, asked.dataset, seed=0, device=workers.devices[0])
    return _described(engines.implementation(asked, model), workers, concurrent, asked)


def without_gpu(asked: Trial | str, workers: Workers, *, concurrent: int) -> Environment:
    """As `environment`, without building the model and without access to the GPU.

    The GPU may be another machine's or be lost.
    """
    device = workers.devices[0]
    engine = engines.planned(asked, device) if isinstance(asked, Trial) else asked
    where = _described(engine, replace(workers, devices=("cpu",)), concurrent)
    if device == "cpu":
        return where
    return replace(where, device=device, device_name=None, memory_format="contiguous")


def _described(
    engine: EngineSpec | str, workers: Workers, concurrent: int, trial: Trial | None = None
) -> Environment:
    from dpbench.measurement import environment as machine

    name, memory_format, device = str(engine), "contiguous", workers.devices[0]
    if isinstance(engine, EngineSpec):
        name, memory_format = engine.name, engines.memory_format(engine, device, trial)
    return machine.describe(
        implementation=name,
        device=device,
        threads=workers.threads,
        memory_format=memory_format,
        physical_batch_size=workers.physical_batch_size,
        workers_beside=concurrent,
    )


def conditions(workers: Workers) -> dict[str, str | int | None]:
    """What a timing on the first of the devices is recorded with, of each of TIMED_UNDER."""
    from dpbench.measurement import environment as machine

    return machine.conditions(
        device=workers.devices[0],
        threads=workers.threads,
        physical_batch_size=workers.physical_batch_size,
    )
