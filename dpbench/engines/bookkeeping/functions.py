"""Any layer as a function of its inputs and parameters, differentiated for each example by itself.

By `vmap` of the layer's own backward pass. Slower than a formula, and right for any layer that
`vmap` can map: a user's module with parameters of its own, attention with packed weights.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree

from dpbench.engines.bookkeeping.calls import Call
from dpbench.engines.bookkeeping.gradients import Formed
from dpbench.errors import BadInput


def by_parameter(
    call: Call, backs: Sequence[Tensor], parameters: Mapping[str, nn.Parameter], led: Sequence[bool]
) -> dict[str, Formed]:
    """The examples' gradients by these parameters of a layer.

    Args:
        call: Of the layer.
        backs: The gradients of the examples' losses by its outputs, [B, ...].
        parameters: Names within the layer, and the parameters.
        led: Which of the call's inputs are examples', [B, ...]; the others are the same for all.

    Raises:
        BadInput: The layer cannot be mapped over examples.
    """
    values = {name: each.detach() for name, each in parameters.items()}

    def of_one(inputs: tuple[Tensor, ...], back: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Of one example, all without their first axis."""
        alone = [each[None] if first else each for each, first in zip(inputs, led, strict=True)]
        args, kwargs = call.arguments(alone)

        def outputs(given: dict[str, Tensor]) -> list[Tensor]:
            out = torch.func.functional_call(call.layer, given, args, kwargs)
            tensors = [each for each in _pytree.tree_leaves(out) if isinstance(each, Tensor)]
            return [tensors[place] for place in call.places]

        backwards: Callable[..., Any] = torch.func.vjp(outputs, values)[1]
        found: dict[str, Tensor] = backwards([each[None] for each in back])[0]
        return found

    axes = tuple(0 if first else None for first in led)
    try:
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):  # the one that can be mapped
            warnings.filterwarnings("ignore", message="There is a performance drop")
            mapped = torch.func.vmap(of_one, in_dims=(axes, 0), randomness="error")
            found = mapped(call.inputs, tuple(backs))
    except RuntimeError as error:
        first, _, _ = str(error).partition("\n")
        raise BadInput(
            f"The bookkeeping engine cannot differentiate {call.layer} for each example by itself "
            f"({first}); make it of layers that it knows, with random ones in layers of their own, "
            "or use another engine."
        ) from error
    return {name: Formed(each) for name, each in found.items()}
