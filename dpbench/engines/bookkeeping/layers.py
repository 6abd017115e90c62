"""The layers that bookkeeping knows: their gradients by example, with norms and weighted sums."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench.engines import backward
from dpbench.engines.update import row_norms
from dpbench.errors import BadInput

# On a CPU
STRIP_BYTES = 2**19  # of patches at a time: some of the second-level cache is the code's
LINE = 16  # numbers that are copied at once


def refuses(model: nn.Module) -> str | None:
    """Why bookkeeping cannot train the model, as the end of a sentence; None where it can."""
    known = backward.with_parameters(model)
    reasons = [_mixes(layer) for layer in model.modules()] + [_unknown(layer) for layer in known]
    own = sum(len(list(layer.parameters(recurse=False))) for layer in known)
    if own != len(list(model.parameters())):
        reasons.append("knows no parameter that two layers share")
    return next(filter(None, reasons), None)


def _mixes(layer: nn.Module) -> str | None:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return f"bounds what one example does, and {layer} mixes examples; GroupNorm does not"
    return None


def _unknown(layer: nn.Module) -> str | None:
    if not all(parameter.requires_grad for parameter in layer.parameters()):
        return f"trains every layer, and this one is frozen: {layer}"
    if backward.has_hooks(layer):
        return f"knows no layer with hooks, like this one: {layer}"
    plain_conv = (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and not isinstance(layer.padding, str)
        and layer.padding_mode == "zeros"
    )
    if plain_conv or isinstance(layer, nn.Linear):
        return None
    return (
        f"knows Linear and ungrouped, zero-padded Conv2d, not {layer}; use an opacus engine for "
        "this model"
    )


@dataclass(frozen=True, slots=True)
class Formed:
    """A convolution's gradients: with kernels this small cheaper than patches' Gram matrices.

    Args:
        layer: The convolution.
        weight: [B, O k k I].
        bias: [B, O].
    """

    layer: nn.Conv2d
    weight: Tensor
    bias: Tensor

    def norms(self) -> Tensor:
        """[B]: of each example's gradient by the layer's parameters."""
        weight = row_norms(self.weight)
        return weight if self.layer.bias is None else torch.hypot(weight, row_norms(self.bias))

    def weighted_sums(self, factors: Tensor) -> list[Tensor]:
        """The sums of the examples' gradients times their factors [B]: the weight's, the bias'."""
        return as_parameters(self.layer, factors @ self.weight, factors @ self.bias)


@dataclass(frozen=True, slots=True)
class OuterProducts:
    """A linear layer's gradients by their factors.

    Args:
        layer: The linear layer.
        inputs: [B, I].
        back: [B, O].
    """

    layer: nn.Linear
    inputs: Tensor
    back: Tensor

    def norms(self) -> Tensor:
        """See `Formed`."""
        bias = row_norms(self.back)
        weight = row_norms(self.inputs) * bias
        return weight if self.layer.bias is None else torch.hypot(weight, bias)

    def weighted_sums(self, factors: Tensor) -> list[Tensor]:
        """See `Formed`."""
        scaled = self.back * factors[:, None]  # [B, O]
        weight = scaled.T @ self.inputs
        return [weight] if self.layer.bias is None else [weight, scaled.sum(0)]


def part(layer: nn.Module, inputs: Tensor, back: Tensor) -> Formed | OuterProducts:
    """The layer's gradients, in the form that is cheapest."""
    if isinstance(layer, nn.Linear):
        if inputs.dim() != 2:
            raise BadInput(f"The bookkeeping engine knows Linear on [B, features], not {layer}.")
        return OuterProducts(layer, inputs, back)
    assert isinstance(layer, nn.Conv2d)
    weight = back.new_empty(len(back), layer.weight.numel())
    for _ in conv_gradients(layer, inputs, back, weight):
        pass
    return Formed(layer, weight, back.sum((2, 3)))


def conv_gradients(
    layer: nn.Conv2d, inputs: Tensor, back: Tensor, out: Tensor | None = None
) -> Iterator[Tensor]:
    """Some examples after the others: their gradients of the weight [b, O k k I].

    They are views of `out` [B, O k k I] or, without it, of memory that the next will use again.
    """
    flat = back.flatten(2)  # [B, O, L]
    examples, channels, places = flat.shape
    weights = layer.weight[0].numel()
    windows = _windows(layer, inputs, *back.shape[2:])
    on_cpu = flat.device.type == "cpu"
    size = _strip(examples, places * weights * flat.element_size()) if on_cpu else examples
    strip = windows.new_empty(min(size, examples), *windows.shape[1:])
    memory = flat.new_empty(len(strip), channels * weights) if out is None else out
    rows = memory.split(size)
    for index, (some, seen) in enumerate(zip(flat.split(size), windows.split(size), strict=True)):
        gradients = rows[0][: len(some)] if out is None else rows[index]
        patches = strip[: len(some)].copy_(seen).view(len(some), places, weights)
        torch.bmm(some, patches, out=gradients.view(len(some), channels, weights))
        yield gradients


def _strip(examples: int, example_bytes: int) -> int:
    """Of so many examples those whose patches stay in the cache together, in even strips."""
    strips = math.ceil(examples / max(1, STRIP_BYTES // example_bytes))
    return math.ceil(examples / strips)


def _windows(layer: nn.Conv2d, inputs: Tensor, height: int, width: int) -> Tensor:
    """A view of what each output sees, channels innermost: [B, I, H, W] -> [B, h, w, k, k, I].

    `F.unfold` copies number by number. A copy of this copies runs: k I numbers, or where these are
    few, k k I, from an unfolding along the width that is in memory.

    Args:
        layer: The convolution.
        inputs: [B, I, H, W], in any layout.
        height: h, of the output.
        width: w, of the output.
    """
    assert not isinstance(layer.padding, str)
    if any(layer.padding):
        tall, wide = layer.padding
        inputs = F.pad(inputs, (wide, wide, tall, tall))
    examples, channels, rows, _ = inputs.shape
    example, channel, row, column = inputs.stride()
    (down, right), (tall, wide) = layer.stride, layer.kernel_size
    along = right * column  # from one output to the next
    within = layer.dilation[1] * column  # from one tap of the kernel to the next
    if wide * channels < LINE:
        inputs = inputs.as_strided(
            (examples, width, rows, wide, channels), (example, along, row, within, channel)
        ).contiguous()
        example, along, row, within, channel = inputs.stride()
    return inputs.as_strided(
        (examples, height, width, tall, wide, channels),
        (example, down * row, along, layer.dilation[0] * row, within, channel),
    )


def as_parameters(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Sums of gradients, the weight's [O k k I], in the shapes of the layer's parameters."""
    kernels = weight.view(layer.out_channels, *layer.kernel_size, -1).permute(0, 3, 1, 2)
    return [kernels] if layer.bias is None else [kernels, bias]
