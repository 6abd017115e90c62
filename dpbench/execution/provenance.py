"""The environment that a row records: implementation, hardware, versions."""

from dataclasses import replace

from dpbench import models
from dpbench.errors import BadInput
from dpbench.execution.backend import Workers
from dpbench.trial import Environment, TimedName

_ON_A_GPU = {"fused": "bookkeeping", "fused-non-private": "non-private"}  # as engines choose there


def environment(
    engine: TimedName, dataset: str, model: str, workers: Workers, *, concurrent: int
) -> Environment:
    """The environment of a trial or timing on the first of the devices.

    Args:
        engine: How steps are computed.
        dataset: What is trained on.
        model: What is trained.
        workers: How trials are run.
        concurrent: Trials that run at the same time.
    """
    from dpbench import engines
    from dpbench.measurement import environment as machine

    device = workers.devices[0]
    match engine:
        case "tutorial-non-private" | "opacus-as-shipped":
            implementation, memory_format = str(engine), "contiguous"
        case _:
            implementation = engines.implementation(
                engine, models.build(model, dataset, seed=0, device=device)
            )
            memory_format = engines.memory_format(implementation, device)
    return machine.describe(
        implementation=implementation,
        device=device,
        threads=workers.threads,
        memory_format=memory_format,
        physical_batch_size=workers.physical_batch_size,
        workers_beside=concurrent,
    )


def without_gpu(
    engine: TimedName, dataset: str, model: str, workers: Workers, *, concurrent: int
) -> Environment:
    """As `environment`, without access to the GPU, which may be another machine's or be lost.

    For a model that cannot be built it is that of the tutorial's.
    """
    try:
        models.refuse(model, dataset)
    except BadInput:
        dataset, model = "mnist", "tutorial-cnn"
    device = workers.devices[0]
    on_cpu = environment(
        engine, dataset, model, replace(workers, devices=("cpu",)), concurrent=concurrent
    )
    if device == "cpu":
        return on_cpu
    return replace(
        on_cpu,
        implementation=_ON_A_GPU.get(engine, engine),
        device=device,
        device_name=None,
        memory_format="contiguous",
    )


def conditions(workers: Workers) -> dict[str, str | int | None]:
    """What a timing on the first of the devices is recorded with, of each of TIMED_UNDER."""
    from dpbench.measurement import environment as machine

    return machine.conditions(
        device=workers.devices[0],
        threads=workers.threads,
        physical_batch_size=workers.physical_batch_size,
    )
