"""Opacus with ghost clipping: norms first, then a second backward pass over reweighted losses."""

from typing import TYPE_CHECKING

from dpbench.engines import EngineSpec
from dpbench.engines.opacus import FAMILY, supports
from dpbench.trial import Trial

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dpbench.engines.protocol import Engine


def build(
    trial: Trial, model: "nn.Module", noise: "torch.Generator", physical_batch_size: int | None
) -> "Engine":
    """See `EngineSpec.build`."""
    from dpbench.engines.opacus.ghost import Ghost

    return Ghost(trial, model, noise=noise, physical_batch_size=physical_batch_size)


SPEC = EngineSpec(
    name="opacus-ghost",
    private=True,
    family=FAMILY,
    order=70,
    supports=supports,
    build=build,
    examples_per_second=5_500.0,
    memory_format="mixed",
)
