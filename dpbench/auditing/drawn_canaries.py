"""Canaries for any model: random inputs, and classes that the initial model does not predict.

They are less far apart than those of `canaries.craft`, which knows its model. So the bound by
guesses may be lower; it holds all the same, and so does the one by noise.
"""

import torch
from torch import Tensor, nn

from dpbench import datasets
from dpbench.auditing.canaries import Canaries, clipped_gradients
from dpbench.errors import BadInput
from dpbench.trial import Workload

SCALES = (1.0, 10.0, 100.0)  # of inputs over those that a model is usually given


def drawn(
    model: nn.Module,
    task: Workload,
    *,
    count: int,
    noise_multiplier: float,
    max_grad_norm: float,
    seed: int,
) -> Canaries:
    """Canaries at the scale whose clipped gradients tell most through the noise.

    That is the one with the largest log det(1 + K / noise^2), with K the gradients' Gram matrix:
    twice the information of a Gaussian channel.

    Args:
        model: In training mode; it has more trained weights than there are canaries.
        task: What it is trained on.
        count: m.
        noise_multiplier: Claimed.
        max_grad_norm: Claimed.
        seed: Of inputs and classes.

    Raises:
        BadInput: There are as many canaries as weights, or more.
    """
    weights = sum(each.numel() for each in model.parameters() if each.requires_grad)
    if count >= weights:
        raise BadInput(
            f"Expected canaries={count} < {weights:,}, the trained parameters of {task.model}: in "
            "fewer numbers than canaries they cannot be told apart; give more --runs."
        )
    rng = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    data = datasets.spec(task.dataset)
    tokens = data.vocabulary is not None
    inputs = _inputs((count, *data.input_shape), data.vocabulary, rng).to(device)
    others = torch.randint(1, max(2, data.classes), (count,), generator=rng).to(device)
    found: dict[float, Canaries] = {}
    for scale in SCALES[:1] if tokens else SCALES:
        planted = Canaries(
            images=inputs if tokens else scale * inputs,
            labels=torch.zeros(count, dtype=torch.int64, device=device),
        )
        found[_information(model, planted, others, noise_multiplier, max_grad_norm)] = planted
    best = found[max(found)]
    return Canaries(images=best.images, labels=_labels(model, best.images, others))


def _inputs(shape: tuple[int, ...], vocabulary: int | None, rng: torch.Generator) -> Tensor:
    if vocabulary is None:
        return torch.randn(shape, generator=rng)
    return torch.randint(0, vocabulary, shape, generator=rng)


def _labels(model: nn.Module, inputs: Tensor, others: Tensor) -> Tensor:
    """Classes that the model does not predict, so that the loss is large."""
    with torch.no_grad():
        logits = model(inputs)
    predicted: Tensor = (logits.argmax(dim=1) + others) % logits.shape[1]
    return predicted


def _information(
    model: nn.Module,
    planted: Canaries,
    others: Tensor,
    noise_multiplier: float,
    max_grad_norm: float,
) -> float:
    labelled = Canaries(images=planted.images, labels=_labels(model, planted.images, others))
    gradients = clipped_gradients(model, labelled, max_grad_norm)
    gram = (gradients @ gradients.T).double().cpu() / noise_multiplier**2
    return float(torch.linalg.slogdet(torch.eye(len(gram), dtype=gram.dtype) + gram)[1])
