"""DP-SGD in one backward pass, for any model that does not mix examples.

Bu, Wang, Zha and Karypis, "Differentially Private Optimization on Large Model at Small Cost", ICML
2023.
"""

from functools import cache
from typing import TYPE_CHECKING

from dpbench import losses, user_code
from dpbench.engines import EngineSpec
from dpbench.errors import BadInput
from dpbench.trial import Trial

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dpbench.engines.bookkeeping.step import Bookkeeping


def supports(trial: Trial, device: str | None) -> str | None:
    """Any optimizer and clipping rule; a model that does not mix examples.

    Where the device is known the model is there, and `refuses` looks at that.
    """
    if device is not None:
        return None
    return _unknown(trial.model, trial.dataset, (trial.model_hash, trial.data_hash))


@cache
def _unknown(model: str, dataset: str, _version: tuple[str | None, ...]) -> str | None:
    from dpbench import models

    try:
        built = models.build(model, dataset, seed=0, device="cpu")
    except BadInput as error:
        if user_code.is_reference(model):
            raise  # no engine can
        return f"cannot build the model ({error})"
    return refuses(built)


def refuses(model: "nn.Module") -> str | None:
    """See `EngineSpec.refuses`."""
    from dpbench.engines.bookkeeping import layers

    return layers.refuses(model)


def build(
    trial: Trial, model: "nn.Module", noise: "torch.Generator", physical_batch_size: int | None
) -> "Bookkeeping":
    """See `EngineSpec.build`."""
    from dpbench.engines.bookkeeping.step import Bookkeeping

    return Bookkeeping(
        trial,
        model,
        noise=noise,
        physical_batch_size=physical_batch_size,
        loss=losses.of(trial),
    )


SPEC = EngineSpec(
    name="bookkeeping",
    private=True,
    order=30,
    supports=supports,
    build=build,
    refuses=refuses,
    examples_per_second=15_000.0,
    stackable=True,
)
