"""What engines that see into a model ask of its layers."""

from typing import Any

from torch import Tensor, nn

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


def graph(root: Tensor) -> tuple[list[Any], dict[int, list[int]]]:
    """The nodes of autograd's graph behind a result, and where it uses which leaves.

    Returns:
        The nodes but those of leaves, and for each leaf's id the sequence numbers of the nodes that
        use it.
    """
    nodes: list[Any] = []
    uses: dict[int, list[int]] = {}
    waiting: list[Any] = [root.grad_fn] if root.grad_fn is not None else []
    known = set(waiting)
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        for following, _ in node.next_functions:
            if hasattr(following, "variable"):
                uses.setdefault(id(following.variable), []).append(node._sequence_nr())
            elif following is not None and following not in known:
                known.add(following)
                waiting.append(following)
    return nodes, uses
