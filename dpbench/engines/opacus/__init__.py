"""What the engines of Opacus share: what they support, and their steps."""

from typing import TYPE_CHECKING, Literal

from dpbench.engines import EngineSpec, MemoryFormat
from dpbench.trial import Trial

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dpbench.engines.protocol import Engine

FAMILY = "Opacus"


def supports(trial: Trial, _device: str | None) -> str | None:
    """Flat clipping: Opacus 1.6 has no other rule whose result equals ours."""
    return None if trial.clipping == "flat" else "clips by the flat rule alone"


def grad_sample_engine(
    mode: Literal["hooks", "functorch", "ew"],
    *,
    order: int,
    examples_per_second: float,
    memory_format: MemoryFormat = "channels_last",
) -> EngineSpec:
    """The engine of one of Opacus' grad sample modes.

    Args:
        mode: As of Opacus' `wrap_model`.
        order: As in `EngineSpec`, like the others.
        examples_per_second: See there.
        memory_format: See there.
    """

    def build(
        trial: Trial, model: "nn.Module", noise: "torch.Generator", physical_batch_size: int | None
    ) -> "Engine":
        from dpbench.engines.opacus.grad_sample import GradSample

        return GradSample(
            trial, model, mode=mode, noise=noise, physical_batch_size=physical_batch_size
        )

    return EngineSpec(
        name=f"opacus-{mode}",
        private=True,
        family=FAMILY,
        order=order,
        supports=supports,
        build=build,
        examples_per_second=examples_per_second,
        memory_format=memory_format,
    )
