"""What engines that see into a model ask of its layers."""

from torch import nn

NO_LABEL = -100  # label of an example that does not count: cross entropy's `ignore_index`


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
