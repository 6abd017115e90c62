"""The memory format of a model's weights and activations.

On a CPU `channels_last` halves the time of a plain step, since max-pooling is vectorised over
channels. Opacus' hooks (and ghost, which calls them for convolutions) read a convolution's inputs
as if they were contiguous and return wrong gradients on any other layout, without an error; its
expanded weights fail on small parts. Tests hold both. `mixed` is `channels_last` but for the inputs
that the hooks read.
"""

import warnings

import torch
from torch import Tensor, nn

from dpbench.engines import MemoryFormat


def arrange(model: nn.Module, memory_format: MemoryFormat) -> None:
    """Puts the model's weights, and so its activations, into the format; in place.

    Weights that are not those of two-dimensional convolutions have no such format.
    """
    if memory_format == "contiguous":
        return
    for weight in model.parameters():
        if weight.dim() == 4:
            # `contiguous` keeps the strides of one channel, in which no convolution sees the format
            weight.data = weight.data.to(memory_format=torch.channels_last)
    for layer in model.modules():
        if type(layer) is nn.Conv2d and memory_format == "mixed":  # of others it copies the hooks
            layer.register_full_backward_pre_hook(_make_contiguous)


def takes_channels_last(model: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Whether the model's own code can compute on such activations.

    `outputs.view(len(outputs), -1)` cannot: it takes contiguous ones alone.

    Args:
        model: Left in another layout; its weights are not changed.
        input_shape: Of one example.
    """
    for dtype in (torch.float32, torch.int64):  # pixels or features, or ids
        inputs = torch.zeros(2, *input_shape, dtype=dtype)
        if _runs(model, inputs):
            arrange(model, "channels_last")
            return _runs(model, inputs)
    return True  # for all that is known


def _runs(model: nn.Module, inputs: Tensor) -> bool:
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # torch says it once a process, of gradients that a step reads in any layout
            warnings.filterwarnings("ignore", message="grad and param do not obey the gradient")
            model(inputs).float().sum().backward()
    except Exception:  # a model of anybody's
        return False
    return True


def _make_contiguous(layer: nn.Module, _gradients: object) -> None:
    """Changes the layout of the inputs that Opacus has kept of the layer, before it reads them."""
    kept: list[list[Tensor]] = getattr(layer, "activations", [])
    kept[:] = [[each.contiguous() for each in inputs] for inputs in kept]
