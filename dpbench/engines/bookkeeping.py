"""DP-SGD in one backward pass for models of Conv2d and Linear layers.

Bu, Wang, Zha and Karypis, "Differentially Private Optimization on Large Model at Small Cost", ICML
2023: one backward pass to the layers' outputs, the examples' squared gradient norms from inputs and
output gradients, then one weighted sum.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench.engines.descent import Sgd, add_up, noisy_mean
from dpbench.engines.protocol import physical_batches
from dpbench.trial import BadInput, Trial

# On a CPU
CHUNK = 144  # examples at a time through the layers: fewer leave convolutions idle, more the cache
STRIP_BYTES = 2**20  # of patches at a time: a usual second-level cache
LINE = 16  # numbers that are copied at once


class Bookkeeping:
    """No weight gradient is computed by autograd, and no example's dense gradient at all.

    Args:
        trial: The privacy parameters, learning rate and momentum.
        model: Conv2d and Linear layers, each used once and trained, with layers between that have
            no parameters, change nothing in place and do not mix examples; trained in place.
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
        self._layers = [layer for layer in model.modules() if list(layer.parameters(recurse=False))]
        for layer in model.modules():
            _refuse_mixing(layer)
        for layer in self._layers:
            _refuse_unknown(layer)
            layer.register_forward_hook(self._keep)
        if sum(len(list(layer.parameters())) for layer in self._layers) != len(
            list(model.parameters())
        ):
            raise BadInput("The bookkeeping engine knows no parameter that two layers share.")
        convolutions = [layer for layer in self._layers if isinstance(layer, nn.Conv2d)]
        self._largest = max(convolutions, key=lambda layer: layer.weight.numel(), default=None)
        self._trial = trial
        self._noise = noise
        self._model = model
        self._parameters = list(model.parameters())
        self._sgd = Sgd(self._parameters, trial)
        self._inputs: dict[nn.Module, Tensor] = {}
        self._outputs: dict[nn.Module, Tensor] = {}
        self._versions: dict[nn.Module, int] = {}  # of the outputs, as the layers gave them
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

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """A forward hook: what the layer was given and gave."""
        if torch.is_grad_enabled():
            if layer in self._outputs:
                raise BadInput(f"The bookkeeping engine knows no layer used twice: {layer}.")
            if isinstance(layer, nn.Linear) and inputs[0].dim() != 2:
                raise BadInput(
                    f"The bookkeeping engine knows Linear on [B, features], not {layer}."
                )
            self._inputs[layer], self._outputs[layer] = inputs[0].detach(), output
            self._versions[layer] = output._version

    def _clipped_sums(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The sum of the examples' losses, and of their clipped gradients by each parameter."""
        if not len(labels):
            return images.new_zeros(()), [torch.zeros_like(each) for each in self._parameters]
        self._inputs.clear()
        self._outputs.clear()
        loss = F.cross_entropy(self._model(images), labels, reduction="sum")
        outputs = [self._output(layer) for layer in self._layers]
        backs = dict(zip(self._layers, torch.autograd.grad(loss, outputs), strict=True))
        with torch.no_grad():
            squared = images.new_zeros(len(labels))
            parts = {}
            for layer, back in backs.items():
                if layer is not self._largest:
                    parts[layer] = _part(layer, self._inputs[layer], back)
                    squared += _squared_norms(layer, *parts[layer])
            added: dict[nn.Module, list[Tensor]] = {}
            if self._largest is None:
                factors = self._factors(squared)
            else:
                inputs, back = self._inputs[self._largest], backs[self._largest]
                factors, added[self._largest] = self._clip(self._largest, inputs, back, squared)
            for layer, part in parts.items():
                added[layer] = _weighted_sums(layer, *part, factors)
        return loss.detach(), [each for layer in self._layers for each in added[layer]]

    def _output(self, layer: nn.Module) -> Tensor:
        """What the layer gave, as it gave it.

        Raises:
            BadInput: The model does not use the layer, or has written over its output.
        """
        if layer not in self._outputs:
            raise BadInput(f"The bookkeeping engine knows no layer that is not used: {layer}.")
        if self._outputs[layer]._version != self._versions[layer]:
            raise BadInput(
                f"The bookkeeping engine knows no layer that changes in place what {layer} gives; "
                "inplace=False does the same."
            )
        return self._outputs[layer]

    def _clip(
        self, layer: nn.Conv2d, inputs: Tensor, back: Tensor, squared: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Every example's factor [B], and this layer's weighted sums.

        Its examples' gradients are formed, measured, weighted and forgotten while in the cache.

        Args:
            layer: The last whose part of the norms is not known.
            inputs: [B, I, H, W].
            back: [B, O, h, w].
            squared: [B]: the other layers' squared gradient norms.
        """
        bias = back.sum((2, 3))  # [B, O]
        if layer.bias is not None:
            squared = squared + _row_norms(bias).square()
        total = back.new_zeros(layer.weight.numel())  # [O k k I]
        factors = []
        done = 0
        for gradients in _conv_gradients(layer, inputs, back):
            flat = gradients.flatten(1)
            others = squared[done : (done := done + len(flat))]
            factors.append(self._factors(_row_norms(flat).square_().add_(others)))
            total.addmv_(flat.T, factors[-1])
        together = torch.cat(factors)
        return together, _as_parameters(layer, total, together @ bias)

    def _factors(self, squared: Tensor) -> Tensor:
        """[B]: what scales gradients of these squared norms to the bound, as Opacus clips."""
        bound = self._trial.max_grad_norm
        assert bound is not None
        return (bound / (squared.sqrt() + 1e-6)).clamp_(max=1.0)


def _refuse_mixing(layer: nn.Module) -> None:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        raise BadInput(
            f"DP-SGD bounds what one example does, and {layer} mixes examples; GroupNorm does not."
        )


def _refuse_unknown(layer: nn.Module) -> None:
    if not all(parameter.requires_grad for parameter in layer.parameters()):
        raise BadInput(f"The bookkeeping engine trains every layer; this one is frozen: {layer}.")
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


def _part(layer: nn.Module, inputs: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer's gradients are made of.

    Of Conv2d every example's gradients: the weight's [B, O, k k I] and the bias' [B, O]. With
    kernels this small they are cheaper to form than the Gram matrices of patches. Of Linear the
    factors of an outer product: [B, I] and [B, O].
    """
    if not isinstance(layer, nn.Conv2d):
        return inputs, back
    weight = back.new_empty(len(back), layer.out_channels, layer.weight[0].numel())
    for _ in _conv_gradients(layer, inputs, back, weight):
        pass
    return weight, back.sum((2, 3))


def _conv_gradients(
    layer: nn.Conv2d, inputs: Tensor, back: Tensor, out: Tensor | None = None
) -> Iterator[Tensor]:
    """Some examples after the others: their gradients of the weight [b, O, k k I].

    They are views of `out` [B, O, k k I] or, without it, of memory that the next will use again.
    """
    flat = back.flatten(2)  # [B, O, L]
    examples, channels, places = flat.shape
    weights = layer.weight[0].numel()
    windows = _windows(layer, inputs, *back.shape[2:])
    on_cpu = flat.device.type == "cpu"
    size = _strip(places * weights * flat.element_size()) if on_cpu else examples
    strip = windows.new_empty(min(size, examples), *windows.shape[1:])
    memory = flat.new_empty(len(strip), channels, weights) if out is None else out
    results = memory.split(size)
    for index, (some, seen) in enumerate(zip(flat.split(size), windows.split(size), strict=True)):
        gradients = results[0][: len(some)] if out is None else results[index]
        patches = strip[: len(some)].copy_(seen).view(len(some), places, weights)
        yield torch.bmm(some, patches, out=gradients)


def _strip(example_bytes: int) -> int:
    """Examples whose patches stay in the cache together."""
    return max(1, STRIP_BYTES // example_bytes)


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


def _squared_norms(layer: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """[B]: of each example's gradients of the layer's weight and bias."""
    one, two = (_row_norms(part).square() for part in (first, second))
    if isinstance(layer, nn.Conv2d):
        return one + (0 if layer.bias is None else two)
    return one * two + (0 if layer.bias is None else two)  # an outer product's norm


def _row_norms(part: Tensor) -> Tensor:
    """[B, ...] -> [B], in one pass over memory."""
    norms: Tensor = torch.linalg.vector_norm(part.flatten(1), dim=1)
    return norms


def _weighted_sums(
    layer: nn.Module, first: Tensor, second: Tensor, factors: Tensor
) -> list[Tensor]:
    """The sums of the examples' gradients times their factors: the weight's and the bias'."""
    if isinstance(layer, nn.Conv2d):
        return _as_parameters(layer, factors @ first.flatten(1), factors @ second)
    scaled = second * factors[:, None]  # [B, O]
    return _as_parameters(layer, scaled.T @ first, scaled.sum(0))


def _as_parameters(layer: nn.Module, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Sums of gradients in the shape of the layer's parameters."""
    if isinstance(layer, nn.Conv2d):  # from [O k k I]
        kernels = weight.view(layer.out_channels, *layer.kernel_size, -1)
        weight = kernels.permute(0, 3, 1, 2)
    return [weight] if layer.bias is None else [weight, bias]
