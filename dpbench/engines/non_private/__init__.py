"""The step without clipping and noise: the baseline of every overhead."""

from typing import TYPE_CHECKING

from dpbench.engines import EngineSpec
from dpbench.trial import Trial

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dpbench.engines.non_private.step import NonPrivate


def build(
    trial: Trial, model: "nn.Module", _noise: "torch.Generator", physical_batch_size: int | None
) -> "NonPrivate":
    """See `EngineSpec.build`."""
    from dpbench.engines.non_private.step import NonPrivate

    return NonPrivate(trial, model, physical_batch_size=physical_batch_size)


SPEC = EngineSpec(
    name="non-private",
    private=False,
    order=0,
    supports=lambda _trial, _device: None,
    build=build,
    examples_per_second=18_000.0,
    stackable=True,
)
