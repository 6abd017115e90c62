"""One pass forward through a model, and one back as far as its layers' outputs.

What a layer's weights do to the loss follows, for each example apart, from the layer's inputs and
the gradient by its outputs. Autograd gives both, and no gradient by the weights is computed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dpbench.errors import BadInput

NO_LABEL = -100  # label of an example that does not count: cross entropy's `ignore_index`

# Each layer with weights: its inputs, and the gradient of the examples' losses by its outputs
Found = dict[nn.Module, tuple[Tensor, Tensor]]


def with_parameters(model: nn.Module) -> list[nn.Module]:
    """The layers that have parameters of their own, in the order of the model's."""
    return [layer for layer in model.modules() if list(layer.parameters(recurse=False))]


def has_hooks(layer: nn.Module) -> bool:
    """Whether a hook may change the layer's inputs, outputs or the gradients of its own weights."""
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or any(each._backward_hooks for each in layer.parameters(recurse=False))
        or "forward" in vars(layer)  # set on this very layer
    )


class Passes:
    """Passes through a model at the weights that it has now.

    Args:
        model: Each of its layers with parameters is used once.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = with_parameters(model)
        self._inputs: dict[nn.Module, Tensor] = {}
        self._versions: dict[nn.Module, int] = {}  # of the inputs
        self._outputs: dict[nn.Module, GradientEdge] = {}  # stay valid if the outputs are changed
        for layer in self._layers:
            layer.register_forward_hook(self._keep)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Found]:
        """The sum of the examples' cross entropies, [], and the ends of every layer.

        Args:
            images: [B, ...].
            labels: Classes, int64 [B]; NO_LABEL for an example that does not count.

        Raises:
            BadInput: A layer is not used, or used twice, or its inputs are changed in place.
        """
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
        """A forward hook: keeps the layer's inputs, and its outputs' place in autograd's graph."""
        if torch.is_grad_enabled():
            if layer in self._outputs:
                raise BadInput(f"The bookkeeping engine knows no layer used twice: {layer}.")
            self._inputs[layer] = inputs[0].detach()  # shares the version counter
            self._versions[layer] = inputs[0]._version
            self._outputs[layer] = get_gradient_edge(output)
