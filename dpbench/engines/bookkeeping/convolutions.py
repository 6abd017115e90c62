"""Gradients of single examples by the weights of convolutions, of any kind."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

# On a CPU
STRIP_BYTES = 2**19  # of patches at a time: some of the second-level cache is the code's


def padded(layer: Convolution, inputs: Tensor) -> Tensor:
    """What the kernels of a convolution see: its inputs with their padding."""
    amounts = layer._reversed_padding_repeated_twice
    if not any(amounts):
        return inputs
    return F.pad(inputs, amounts, mode=_PADDING[layer.padding_mode])


_PADDING = {mode: mode for mode in ("reflect", "replicate", "circular")} | {"zeros": "constant"}


def weight_gradients(layer: Convolution, inputs: Tensor, back: Tensor) -> Tensor:
    """[B, O, I / groups, *kernel]: the gradients by the weight.

    Args:
        layer: The convolution.
        inputs: [B, I, *size].
        back: [B, O, *places].
    """
    windows = _windows(padded(layer, inputs), layer, back.shape[2:])
    return _products(back, windows, layer.groups)


def transposed_weight_gradients(layer: Transposed, inputs: Tensor, back: Tensor) -> Tensor:
    """[B, I, O / groups, *kernel]: as those of a convolution that maps `back` to `inputs`.

    Args:
        layer: The transposed convolution.
        inputs: [B, I, *places].
        back: [B, O, *size].
    """
    assert not isinstance(layer.padding, str)  # no transposed convolution has one
    amounts = [each for side in reversed(layer.padding) for each in (side, side)]
    seen = F.pad(back, amounts) if any(amounts) else back
    return _products(inputs, _windows(seen, layer, inputs.shape[2:]), layer.groups)


def _windows(inputs: Tensor, layer: Convolution | Transposed, places: Sequence[int]) -> Tensor:
    """A view of what each output sees: [B, I, *size] -> [B, I, *places, *kernel]."""
    dimensions = len(places)
    strides = inputs.stride()[2:]
    return inputs.as_strided(
        (*inputs.shape[:2], *places, *layer.kernel_size),
        (
            *inputs.stride()[:2],
            *(layer.stride[axis] * strides[axis] for axis in range(dimensions)),
            *(layer.dilation[axis] * strides[axis] for axis in range(dimensions)),
        ),
    )


def _products(back: Tensor, windows: Tensor, groups: int) -> Tensor:
    """[B, O, I / groups, *kernel].

    Args:
        back: [B, O, *places].
        windows: [B, I, *places, *kernel].
        groups: Of channels.
    """
    examples, outputs = back.shape[:2]
    dimensions = back.dim() - 2
    kernel = windows.shape[2 + dimensions :]
    grouped = windows.unflatten(1, (groups, -1))  # [B, G, I / G, *places, *kernel]
    channels = grouped.shape[2]
    # channels innermost: [B, G, *places, *kernel, I / G]
    grouped = grouped.movedim(2, -1)
    places, weights = math.prod(back.shape[2:]), math.prod(kernel) * channels
    rows = back.reshape(examples, groups, outputs // groups, places)
    out = back.new_empty(examples, groups, outputs // groups, weights)
    size = strip(examples, groups * places * weights * back.element_size(), back.device)
    memory = grouped.new_empty(min(size, examples), *grouped.shape[1:])
    for some, seen, gradients in zip(
        rows.split(size), grouped.split(size), out.split(size), strict=True
    ):
        patches = memory[: len(some)].copy_(seen).view(len(some) * groups, places, weights)
        torch.bmm(some.flatten(0, 1), patches, out=gradients.flatten(0, 1))
    return out.view(examples, outputs, *kernel, channels).movedim(-1, 2)


def strip(examples: int, example_bytes: int, device: torch.device) -> int:
    """Of so many examples those whose patches stay in the cache together, in even strips."""
    if device.type != "cpu":
        return max(1, examples)
    strips = math.ceil(examples / max(1, STRIP_BYTES // max(1, example_bytes)))
    return math.ceil(examples / max(1, strips)) or 1
