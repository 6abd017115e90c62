"""A small CNN's step as one compiled pass per example, on one CPU thread.

The tutorial's CNN, and the tanh CNN of its shapes.

Where numba is missing, or has nowhere to keep what it compiles, `bookkeeping` takes its place.
"""

import importlib.util
from typing import TYPE_CHECKING

from dpbench import datasets
from dpbench.engines import EngineSpec
from dpbench.trial import Trial

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dpbench.engines.fused.step import Fused


MODELS = ("tutorial-cnn", "tanh-cnn")
INPUT_SHAPE = (1, 28, 28)


def supports(trial: Trial, device: str | None) -> str | None:
    """The networks of its kernel on a CPU, by flat clipping and any optimizer."""
    if trial.model not in MODELS:
        return f"knows the models {' and '.join(MODELS)} alone"
    if datasets.spec(trial.dataset).input_shape != INPUT_SHAPE:
        return "knows images of one channel and 28 x 28 pixels alone"
    if trial.loss is not None:
        return "knows cross entropy alone"
    if trial.clipping != "flat":
        return "clips by the flat rule alone"
    if device is not None and importlib.util.find_spec("numba") is None:
        return "needs numba"
    return None if device in ("cpu", None) else "runs on a CPU alone"


def refuses(model: "nn.Module") -> str | None:
    """See `EngineSpec.refuses`."""
    from dpbench.engines.fused import step

    return None if step.supports(model) else "its kernel computes another network, or there is none"


def build(
    trial: Trial, model: "nn.Module", noise: "torch.Generator", _physical_batch_size: int | None
) -> "Fused":
    """See `EngineSpec.build`."""
    from dpbench.engines.fused.step import Fused

    return Fused(trial, model, noise=noise)


def prepare() -> None:
    """See `EngineSpec.prepare`."""
    from dpbench.engines.fused import step

    step.compile_kernel()


SPEC = EngineSpec(
    name="fused",
    private=True,
    order=20,
    supports=supports,
    build=build,
    refuses=refuses,
    stand_in="bookkeeping",
    examples_per_second=40_000.0,
    stackable=True,
    prepare=prepare,
)
