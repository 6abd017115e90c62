"""DP-SGD in one backward pass for models of Conv2d and Linear layers.

Bu, Wang, Zha and Karypis, "Differentially Private Optimization on Large Model at Small Cost", ICML
2023: one backward pass to the layers' outputs, the examples' squared gradient norms from inputs and
output gradients, then one weighted sum.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench.engines import backward
from dpbench.engines.protocol import physical_batches
from dpbench.engines.sgd import Sgd, add_up, noisy_mean, row_norms
from dpbench.errors import BadInput
from dpbench.trial import Trial

# On a CPU
CHUNK = 144  # examples at a time through the layers: fewer leave convolutions idle, more the cache
STRIP_BYTES = 2**19  # of patches at a time: some of the second-level cache is the code's
LINE = 16  # numbers that are copied at once


class Bookkeeping:
    """No weight gradient is computed by autograd, and no example's dense gradient at all.

    Args:
        trial: The privacy parameters, learning rate and momentum.
        model: Conv2d and Linear layers, each used once and trained, with layers between that have
            no parameters and do not mix examples; trained in place.
        noise: Source of the noise, on the model's device.
        physical_batch_size: Most examples in one pass.

    Raises:
        BadInput: The model is another.
    """

    def __init__(
        self,
        trial: Trial,
        model: nn.Module,
        *,
        noise: torch.Generator,
        physical_batch_size: int | None,
    ) -> None:
        self._layers = backward.with_parameters(model)
        for layer in model.modules():
            _refuse_mixing(layer)
        for layer in self._layers:
            _refuse_unknown(layer)
        if sum(len(list(layer.parameters())) for layer in self._layers) != len(
            list(model.parameters())
        ):
            raise BadInput("The bookkeeping engine knows no parameter that two layers share.")
        convolutions = [layer for layer in self._layers if isinstance(layer, nn.Conv2d)]
        self._largest = max(convolutions, key=lambda layer: layer.weight.numel(), default=None)
        self._trial = trial
        self._noise = noise
        self._passes = backward.through(model)
        self._parameters = list(model.parameters())
        assert trial.max_grad_norm is not None
        # divided by norms in one operation, where a number takes two
        self._bound = self._parameters[0].new_tensor(trial.max_grad_norm)
        self._sgd = Sgd(self._parameters, trial)
        on_cpu = self._parameters[0].device.type == "cpu"
        sizes = [size for size in (physical_batch_size, CHUNK if on_cpu else None) if size]
        self._physical_batch_size = min(sizes, default=None)

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return self._sgd.state

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total, sums = images.new_zeros(()), list[Tensor]()
        for part in physical_batches(images, labels, self._physical_batch_size):
            loss, clipped = self._clipped_sums(*part[:2])
            total += loss
            sums = add_up(sums, clipped)
        self._sgd.step(noisy_mean(self._parameters, sums, self._trial, self._noise))
        return total

    def _clipped_sums(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The sum of the examples' losses, and of their clipped gradients by each parameter."""
        if not len(labels):
            return images.new_zeros(()), [torch.zeros_like(each) for each in self._parameters]
        loss, found = self._passes(images, labels)
        with torch.no_grad():
            parts = {
                layer: _part(layer, *ends)
                for layer, ends in found.items()
                if layer is not self._largest
            }
            norms = [part.norms() for part in parts.values()] or [images.new_zeros(len(labels))]
            together: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # [B]
            added: dict[nn.Module, list[Tensor]] = {}
            if self._largest is None:
                factors = self._factors(together)
            else:
                factors, added[self._largest] = self._clip(
                    self._largest, *found[self._largest], together
                )
            for layer, part in parts.items():
                added[layer] = part.weighted_sums(factors)
        return loss, [each for layer in self._layers for each in added[layer]]

    def _clip(
        self, layer: nn.Conv2d, inputs: Tensor, back: Tensor, others: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Every example's factor [B], and this layer's weighted sums.

        Its examples' gradients are formed, measured, weighted and forgotten while in the cache.

        Args:
            layer: The last whose part of the norms is not known.
            inputs: [B, I, H, W].
            back: [B, O, h, w].
            others: [B]: the norms of the other layers' gradients.
        """
        bias = back.sum((2, 3))  # [B, O]
        if layer.bias is not None:
            others = torch.hypot(others, row_norms(bias))
        total = back.new_zeros(layer.weight.numel())  # [O k k I]
        factors = []
        done = 0
        for gradients in _conv_gradients(layer, inputs, back):
            some = others[done : (done := done + len(gradients))]
            factors.append(self._factors(torch.hypot(row_norms(gradients), some)))
            total.addmv_(gradients.T, factors[-1])
        together = torch.cat(factors)
        return together, _as_parameters(layer, total, together @ bias)

    def _factors(self, norms: Tensor) -> Tensor:
        """[B]: what scales gradients of these norms to the bound, as Opacus clips."""
        return self._bound / (norms + 1e-6).clamp_(min=self._bound)


def _refuse_mixing(layer: nn.Module) -> None:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        raise BadInput(
            f"DP-SGD bounds what one example does, and {layer} mixes examples; GroupNorm does not."
        )


def _refuse_unknown(layer: nn.Module) -> None:
    if not all(parameter.requires_grad for parameter in layer.parameters()):
        raise BadInput(f"The bookkeeping engine trains every layer; this one is frozen: {layer}.")
    if backward.has_hooks(layer):
        raise BadInput(f"The bookkeeping engine knows no layer with hooks, like this one: {layer}.")
    plain_conv = (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and not isinstance(layer.padding, str)
        and layer.padding_mode == "zeros"
    )
    if not (plain_conv or isinstance(layer, nn.Linear)):
        raise BadInput(
            f"The bookkeeping engine knows Linear and ungrouped, zero-padded Conv2d, not {layer}; "
            "use an opacus engine for this model."
        )


@dataclass(frozen=True, slots=True)
class _Formed:
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
        return _as_parameters(self.layer, factors @ self.weight, factors @ self.bias)


@dataclass(frozen=True, slots=True)
class _OuterProducts:
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
        """See `_Formed`."""
        bias = row_norms(self.back)
        weight = row_norms(self.inputs) * bias
        return weight if self.layer.bias is None else torch.hypot(weight, bias)

    def weighted_sums(self, factors: Tensor) -> list[Tensor]:
        """See `_Formed`."""
        scaled = self.back * factors[:, None]  # [B, O]
        weight = scaled.T @ self.inputs
        return [weight] if self.layer.bias is None else [weight, scaled.sum(0)]


def _part(layer: nn.Module, inputs: Tensor, back: Tensor) -> _Formed | _OuterProducts:
    """The layer's gradients, in the form that is cheapest."""
    if isinstance(layer, nn.Linear):
        if inputs.dim() != 2:
            raise BadInput(f"The bookkeeping engine knows Linear on [B, features], not {layer}.")
        return _OuterProducts(layer, inputs, back)
    assert isinstance(layer, nn.Conv2d)
    weight = back.new_empty(len(back), layer.weight.numel())
    for _ in _conv_gradients(layer, inputs, back, weight):
        pass
    return _Formed(layer, weight, back.sum((2, 3)))


def _conv_gradients(
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


def _as_parameters(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Sums of gradients, the weight's [O k k I], in the shapes of the layer's parameters."""
    kernels = weight.view(layer.out_channels, *layer.kernel_size, -1).permute(0, 3, 1, 2)
    return [kernels] if layer.bias is None else [kernels, bias]
