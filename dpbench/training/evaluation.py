"""Evaluates a model on all examples of a part of the data."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench import engines, losses
from dpbench.engines.chunks import in_evaluation
from dpbench.training import metrics
from dpbench.training.metrics import Evaluation, Metric

BATCH = 1_000  # examples in one forward pass


def evaluate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    prepare: Callable[[Tensor], Tensor],
    loss: losses.Loss | None = None,
    own: Mapping[str, Metric] = MappingProxyType({}),
) -> Evaluation:
    """What the model is worth on all of the examples.

    The loss is cross entropy in nats, or the user's; then targets need not be classes, and what is
    of classes is None.

    Args:
        model: Prepared inputs [B, ...] -> logits [B, classes], or what the user's loss takes.
        inputs: Raw, [M, ...].
        targets: Classes, int64 [M], or what the user's loss takes.
        prepare: As `Data.prepare`.
        loss: The user's; None for cross entropy.
        own: The model's own metrics, (outputs, targets) -> a number.
    """
    total = torch.zeros(1, dtype=sum_type(targets.device), device=targets.device)
    outputs_of, kept = engines.forward(model), list[Tensor]()
    with torch.no_grad(), in_evaluation(model):
        for part, part_targets in zip(inputs.split(BATCH), targets.split(BATCH), strict=True):
            outputs = outputs_of(prepare(part))  # [B, classes]
            if loss is None:
                total += F.cross_entropy(outputs, part_targets, reduction="sum")
            else:
                total += loss(outputs, part_targets).sum()
            if loss is None or own:
                kept.append(outputs)
        everything = torch.cat(kept) if kept else None
        found = {} if loss or everything is None else metrics.of_classes(everything, targets)
        named = None if everything is None else metrics.own(own, everything, targets)
    return Evaluation(loss=float(total) / len(targets), metrics=named, **found)


def sum_type(device: torch.device) -> torch.dtype:
    """The widest type that sums on the device can have: Metal has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
