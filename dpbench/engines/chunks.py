"""How many examples go through a model at a time on a CPU, so that what they leave stays in cache.

Fewer leave the processor idle between operations; more read and write memory, and have the system
map it anew in each pass.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

LEAST, MOST = 16, 256
PASSES = 8


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Afterwards each layer is in the mode that it was in.

    In training, dropout drops, and batch normalisation takes no single example and keeps what it
    sees.
    """
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def examples_at_a_time(model: nn.Module, inputs: Tensor, *, held_bytes: int) -> int:
    """Of examples like these, so many whose activations take about `held_bytes`, or some more.

    More where weights are large, since the sums of each chunk's gradients are as large.

    Activations are what layers with parameters are given and give. The model is as before.

    Args:
        model: On a CPU.
        inputs: [B, ...], one at least.
        held_bytes: As measured to be fast.
    """
    sizes: list[int] = []

    def count(_layer: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        leaves = _pytree.tree_leaves((args, kwargs, output))
        sizes.extend(each.nbytes for each in leaves if isinstance(each, Tensor))

    hooks = [
        layer.register_forward_hook(count, with_kwargs=True)
        for layer in model.modules()
        if any(True for _ in layer.parameters(recurse=False))
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), in_evaluation(model):
            model(inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    weights = sum(each.nbytes for each in model.parameters())
    held_bytes += PASSES * weights  # which each chunk's sums go through
    return max(LEAST, min(MOST, held_bytes // max(1, sum(sizes))))
