"""One pass forward through a model, and one back as far as its layers' outputs.

What a layer's weights do to the loss follows from its inputs and the gradient by its outputs, for
each example apart, or for the batch (`weight_gradients`). Autograd gives these for any model. Where
every layer is known, the derivatives are called here one after another, which spares autograd's
notes, and what none of them needs is overwritten.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dpbench.errors import BadInput

_aten = torch.ops.aten
_SUM = 2  # cross entropy's reduction

NO_LABEL = -100  # of an example that counts for nothing: cross entropy's `ignore_index`

# Each layer with weights, its inputs, and the gradient of the examples' losses by its outputs
Found = dict[nn.Module, tuple[Tensor, Tensor]]


class Passes(Protocol):
    """Passes through a model at the weights that it has now."""

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Found]:
        """The sum of the examples' cross entropies, [], and what is found on the way.

        Args:
            images: [B, ...]; only a first layer that works in place changes them.
            labels: Classes, int64 [B]; NO_LABEL for an example that counts for nothing.

        Raises:
            BadInput: By autograd: a layer is not used, or twice; what it is given is written over.
        """
        ...


def through(model: nn.Module) -> Passes:
    """The fastest passes through a model of Conv2d, Linear and layers without parameters."""
    layers = chain(model)
    return ByAutograd(model) if layers is None else ByHand(layers)


def with_parameters(model: nn.Module) -> list[nn.Module]:
    """The layers that have parameters of their own, in the order of the model's."""
    return [layer for layer in model.modules() if list(layer.parameters(recurse=False))]


def chain(model: nn.Module) -> list[nn.Module] | None:
    """The layers of a model that is a chain, in order; None where it is no chain known here.

    That is a Sequential, maybe of others, of ReLU, MaxPool2d, Flatten, and trained Conv2d and
    Linear, none of whose parameters is used twice, and no hook on any of them.
    """
    layers = _links(model)
    if layers is None:
        return None
    parameters = [each for layer in layers for each in layer.parameters()]
    return layers if 0 < len(parameters) == len(set(parameters)) else None


def has_hooks(layer: nn.Module) -> bool:
    """Whether something may change what the layer is given, or what it gives; none of its parts.

    Or the gradients of its own weights.
    """
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or any(each._backward_hooks for each in layer.parameters(recurse=False))
        or "forward" in vars(layer)  # set on this very layer
    )


class ByHand:
    """Passes through a chain.

    Args:
        layers: Of `chain`.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        self._layers = layers
        self._first = next(layer for layer in layers if _has_weights(layer))

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Found]:
        """See `Passes`."""
        logits, kept = self._forward(images)
        loss, back = _cross_entropy(logits, labels)
        return loss, self._backward(back, kept)

    @torch.no_grad()
    def _forward(self, images: Tensor) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """The logits, and what `_through` needs of each layer."""
        kept: list[tuple[Tensor, ...]] = []
        at, spare = images, False  # whether no derivative needs `at`
        for layer in self._layers:
            before = at
            if isinstance(layer, nn.ReLU):
                at = F.relu(before, inplace=spare)
                kept.append((at,))
            elif isinstance(layer, nn.MaxPool2d):
                at, places = F.max_pool2d_with_indices(before, *_window(layer))
                kept.append((before, places))
            else:
                at = layer(before)
                kept.append((before,))
            spare = _has_weights(layer)
        return at, kept

    @torch.no_grad()
    def _backward(self, back: Tensor, kept: list[tuple[Tensor, ...]]) -> Found:
        found: Found = {}
        for layer in reversed(self._layers):
            known = kept.pop()  # and so free, once it is used
            if _has_weights(layer):
                found[layer] = known[0], back
                if layer is self._first:
                    break
            back = _through(layer, back, *known)
        return found


class ByAutograd:
    """Passes through any model.

    Args:
        model: Each of its layers with parameters is used once.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = with_parameters(model)
        self._inputs: dict[nn.Module, Tensor] = {}
        self._versions: dict[nn.Module, int] = {}  # of the inputs
        self._outputs: dict[nn.Module, GradientEdge] = {}  # holds, whatever is written over them
        for layer in self._layers:
            layer.register_forward_hook(self._keep)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Found]:
        """See `Passes`."""
        self._inputs.clear()
        self._outputs.clear()
        loss = F.cross_entropy(self._model(images), labels, reduction="sum")
        for layer in self._layers:
            if layer not in self._outputs:
                raise BadInput(f"The bookkeeping engine knows no layer that is not used: {layer}.")
            if self._inputs[layer]._version != self._versions[layer]:
                raise BadInput(
                    f"The bookkeeping engine knows no model that writes over what {layer} is given."
                )
        backs = torch.autograd.grad(loss, [self._outputs[layer] for layer in self._layers])
        return loss.detach(), {
            layer: (self._inputs[layer], back)
            for layer, back in zip(self._layers, backs, strict=True)
        }

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """A forward hook: what the layer was given, and where in autograd's graph it is left."""
        if torch.is_grad_enabled():
            if layer in self._outputs:
                raise BadInput(f"The bookkeeping engine knows no layer used twice: {layer}.")
            self._inputs[layer] = inputs[0].detach()  # of one version with them
            self._versions[layer] = inputs[0]._version
            self._outputs[layer] = get_gradient_edge(output)


@torch.no_grad()
def weight_gradients(layer: nn.Module, inputs: Tensor, back: Tensor) -> list[Tensor]:
    """The sums over the batch of the gradients by a chain's layer's weight, and by its bias if any.

    Args:
        layer: The Conv2d or Linear.
        inputs: What it was given, [B, ...].
        back: The gradient of the examples' losses by its outputs, [B, ...].
    """
    if isinstance(layer, nn.Linear):
        back, inputs = back.flatten(0, -2), inputs.flatten(0, -2)
        weight, bias = back.T @ inputs, back.sum(0)
    else:
        assert isinstance(layer, nn.Conv2d)
        wanted = (False, True, layer.bias is not None)
        _, weight, bias = _convolution_backward(layer, back, inputs, wanted)
    return [weight] if layer.bias is None else [weight, bias]


def _links(part: nn.Module) -> list[nn.Module] | None:
    """The layers of a part of a chain, in order."""
    if has_hooks(part):
        return None
    if type(part) is not nn.Sequential:
        return [part] if _is_known(part) else None
    links: list[nn.Module] = []
    for each in part:
        found = _links(each)
        if found is None:
            return None
        links += found
    return links


def _is_known(layer: nn.Module) -> bool:
    if type(layer) is nn.Conv2d:
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    elif type(layer) is nn.MaxPool2d:
        plain = not layer.return_indices
    else:
        plain = type(layer) in (nn.Linear, nn.ReLU, nn.Flatten)
    return plain and all(each.requires_grad for each in layer.parameters())


def _has_weights(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear)


@torch.no_grad()
def _cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the examples' cross entropies, [], and its gradient by the logits."""
    logarithms = torch.log_softmax(logits, 1)
    known = (labels, None, _SUM, NO_LABEL)  # with no weights of classes
    loss, weight = _aten.nll_loss_forward(logarithms, *known)
    back = _aten.nll_loss_backward(torch.ones_like(loss), logarithms, *known, weight)
    return loss, _aten._log_softmax_backward_data(back, logarithms, 1, logits.dtype)


def _through(layer: nn.Module, back: Tensor, known: Tensor, places: Tensor | None = None) -> Tensor:
    """The gradient by a layer's inputs, from that by its outputs.

    Args:
        layer: Of a chain.
        back: The gradient by its outputs.
        known: Its inputs; of ReLU its outputs.
        places: Of MaxPool2d, where in the inputs the largest are.
    """
    gradient: Tensor
    match layer:
        case nn.Conv2d():
            if back.device.type == "cpu" and _has_phases(layer):
                gradient = _through_phases(layer, back, known)
            else:
                gradient, _, _ = _convolution_backward(layer, back, known, (True, False, False))
        case nn.Linear():
            gradient = back @ layer.weight
        case nn.ReLU():
            gradient = _aten.threshold_backward.grad_input(back, known, 0, grad_input=back)
        case nn.MaxPool2d():
            gradient = _aten.max_pool2d_with_indices_backward(back, known, *_window(layer), places)
        case _:  # Flatten
            gradient = torch.empty_like(known).copy_(back.reshape(known.shape))  # in its layout
    return gradient


def _has_phases(layer: nn.Conv2d) -> bool:
    """Whether each place of the inputs is met by as many of the kernel's taps as any other."""
    taps = zip(layer.kernel_size, layer.stride, strict=True)
    return (
        max(layer.stride) > 1
        and all(size % step == 0 for size, step in taps)
        and not any(layer.padding)
        and max(layer.dilation) == layer.groups == 1
    )


def _through_phases(layer: nn.Conv2d, back: Tensor, inputs: Tensor) -> Tensor:
    """The gradient by a strided convolution's inputs, as one convolution without a stride.

    Inputs at every `stride`-th place, a phase, are met by the same taps of the kernel; so are those
    of each other phase, by others. One convolution of the outputs' gradient gives all phases as
    channels. On a CPU that takes less time than PyTorch's own (bench/ENGINES.md).

    Args:
        layer: With phases.
        back: [B, O, h, w].
        inputs: [B, I, H, W].
    """
    (tall, wide), (down, right) = layer.kernel_size, layer.stride
    tall, wide = tall // down, wide // right  # taps of a phase
    taps = layer.weight.unflatten(3, (wide, right)).unflatten(2, (tall, down)).flip(2, 4)
    kernels = taps.permute(3, 5, 1, 0, 2, 4).flatten(0, 2)  # [down right I, O, tall, wide]
    channels_last = kernels.contiguous(memory_format=torch.channels_last)
    phases = F.conv2d(back, channels_last, padding=(tall - 1, wide - 1))
    rows, columns = phases.shape[2:]
    gradient = torch.zeros_like(inputs)
    met = gradient[:, :, : down * rows, : right * columns]
    met.unflatten(3, (columns, right)).unflatten(2, (rows, down)).copy_(
        phases.unflatten(1, (down, right, -1)).permute(0, 3, 4, 1, 5, 2)
    )
    return gradient


def _convolution_backward(
    layer: nn.Conv2d, back: Tensor, inputs: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by inputs, weight and bias, each if it is wanted."""
    gradients: tuple[Tensor, Tensor, Tensor] = _aten.convolution_backward(
        back,
        inputs,
        layer.weight,
        [layer.out_channels],
        layer.stride,
        layer.padding,
        layer.dilation,
        False,  # not transposed, and so with no
        [0, 0],  # padding of its outputs
        layer.groups,
        wanted,
    )
    return gradients


def _window(layer: nn.MaxPool2d) -> tuple[Any, ...]:
    return layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode
