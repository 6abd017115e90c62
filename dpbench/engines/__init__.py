"""Ways to compute a training step: one file each, one small protocol."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dpbench.engines import fused
from dpbench.engines.bookkeeping import Bookkeeping
from dpbench.engines.cuda_graphs import Capturable, Graphed
from dpbench.engines.non_private import NonPrivate
from dpbench.engines.protocol import Engine
from dpbench.engines.stacked import Stacked
from dpbench.trial import EngineName, Trial

__all__ = ["Engine", "at_once", "build", "forward", "implementation", "memory_format", "stacked"]

MemoryFormat = Literal["contiguous", "channels_last", "mixed"]


def implementation(engine: EngineName, model: nn.Module) -> EngineName:
    """The engine that computes the step where `engine` is asked for this model on its device."""
    if not fused.supports(model):
        if engine == "fused":
            return "bookkeeping"
        if engine == "fused-non-private":
            return "non-private"
    return engine


def memory_format(engine: EngineName, device: str) -> MemoryFormat:
    """The fastest layout of the weights, and so of the activations, in which the engine is right.

    On a CPU `channels_last` halves the time of a plain step, since max-pooling is vectorised over
    channels. Opacus' hooks (and ghost, which calls them for convolutions) read a convolution's
    inputs as if they were contiguous and return wrong gradients on any other layout, without a
    word; its expanded weights fail on small parts. A test holds both. `mixed` is `channels_last`
    but for the inputs that the hooks read.
    """
    if device != "cpu" or engine == "opacus-ew":
        return "contiguous"
    return "mixed" if engine in ("opacus-hooks", "opacus-ghost") else "channels_last"


def forward(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The fastest way to the model's logits at the weights that it has now, for evaluation.

    The same for every engine, so that arms are compared by their weights alone.
    """
    return fused.Forward(model) if fused.computes(model) else model


def build(
    trial: Trial,
    model: nn.Module,
    *,
    noise: torch.Generator,
    physical_batch_size: int | None = None,
) -> Engine:
    """The trial's engine, which trains `model` in place.

    Args:
        trial: Names the engine and holds what a step needs.
        model: In training mode, on its device.
        noise: Generator on the model's device; the only source of the noise.
        physical_batch_size: Most examples in one forward pass; None for whole batches. It bounds
            memory and changes no result but by rounding.

    Raises:
        BadInput: The engine cannot train the model.
    """
    engine = implementation(trial.engine, model)
    device = next(model.parameters()).device.type
    layout = memory_format(engine, device)
    if layout != "contiguous":
        model.to(memory_format=torch.channels_last)
    if layout == "mixed":
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_full_backward_pre_hook(_make_contiguous)
    if layout != "contiguous" and engine.startswith("opacus-"):
        for layer in model.modules():
            if isinstance(layer, nn.Flatten):
                layer.register_forward_pre_hook(_return_channels_last)
    _compute_in_float32()
    match engine:
        case "non-private":
            return NonPrivate(trial, model, physical_batch_size=physical_batch_size)
        case "fused" | "fused-non-private":
            return fused.Fused(trial, model, noise=noise)
        case "bookkeeping":
            return Bookkeeping(trial, model, noise=noise, physical_batch_size=physical_batch_size)
        case "opacus-hooks" | "opacus-functorch" | "opacus-ew":
            from dpbench.engines.opacus_grad_sample import OpacusGradSample  # takes a second

            return OpacusGradSample(
                trial, model, noise=noise, physical_batch_size=physical_batch_size
            )
        case "opacus-ghost":
            from dpbench.engines.opacus_ghost import OpacusGhost

            return OpacusGhost(trial, model, noise=noise, physical_batch_size=physical_batch_size)


def at_once(engine: Engine, *, noise: Sequence[torch.Generator]) -> Engine:
    """The engine; on a GPU, and where its steps can be captured, they are CUDA graphs.

    Args:
        engine: An engine, or a stack of trials.
        noise: All generators that it draws from, on its device.
    """
    if noise[0].device.type == "cuda" and isinstance(engine, Capturable):
        return Graphed(engine, noise=noise)
    return engine


def stacked(
    trials: Sequence[Trial],
    models: Sequence[nn.Sequential],
    *,
    noise: Sequence[torch.Generator],
    physical_batch_size: int | None,
) -> Stacked:
    """The engine that trains all of the trials at once; see `Stacked`."""
    _compute_in_float32()
    return Stacked(trials, models, noise=noise, physical_batch_size=physical_batch_size)


def _make_contiguous(layer: nn.Module, _gradients: object) -> None:
    """Changes the layout of the inputs that Opacus has kept of the layer, before it reads them."""
    kept: list[list[Tensor]] = getattr(layer, "activations", [])
    kept[:] = [[each.contiguous() for each in inputs] for inputs in kept]


def _return_channels_last(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A hook of Flatten: has the gradient by these inputs come as theirs do, in `channels_last`.

    Otherwise it comes contiguous, and max-pooling copies all that it reads. Our own engines do
    without autograd.
    """
    (given,) = inputs
    if given.requires_grad and given.dim() == 4:
        given.register_hook(_channels_last)


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)


def _compute_in_float32() -> None:
    """Has a GPU's convolutions round as a CPU's do: by default they use ten bits of each number."""
    torch.backends.cudnn.allow_tf32 = False
