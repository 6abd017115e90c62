"""Canaries for any model: random inputs, and classes that the initial model does not predict.

With a loss of the user's, they have the targets of random training examples instead: what a target
may be only the user's data say.

They are less far apart than those of `canaries.craft`, which knows its model. So the bound by
guesses may be lower; it holds all the same, and so does the one by noise.
"""

import torch
from torch import Tensor, nn

from dpbench import datasets, losses, user_code
from dpbench.auditing.canaries import Canaries, clipped_gradients
from dpbench.auditing.claim import Claim
from dpbench.datasets import loading, resolution
from dpbench.errors import BadInput

SCALES = (1.0, 10.0, 100.0)  # of inputs over those that a model is usually given


def drawn(model: nn.Module, claim: Claim, *, seed: int) -> Canaries:
    """Canaries at the scale whose clipped gradients tell most through the noise.

    That is the one with the largest log det(1 + K / noise^2), with K the gradients' Gram matrix:
    twice the information of a Gaussian channel.

    Args:
        model: In training mode; it has more trained weights than there are canaries.
        claim: With the task that the model is trained on.
        seed: Of inputs and targets.

    Raises:
        BadInput: There are as many canaries as weights, or more.
    """
    task, count = claim.task, claim.canaries
    assert task is not None
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
    targets = None if task.loss is None else _targets(claim, rng).to(device)
    found: dict[float, Canaries] = {}
    for scale in SCALES[:1] if tokens else SCALES:
        scaled = inputs if tokens else scale * inputs
        labels = _labels(model, scaled, others) if targets is None else targets
        planted = Canaries(images=scaled, labels=labels)
        found[_information(model, planted, claim)] = planted
    return found[max(found)]


def _inputs(shape: tuple[int, ...], vocabulary: int | None, rng: torch.Generator) -> Tensor:
    if vocabulary is None:
        return torch.randn(shape, generator=rng)
    return torch.randint(0, vocabulary, shape, generator=rng)


def _targets(claim: Claim, rng: torch.Generator) -> Tensor:
    """Those of random training examples."""
    assert claim.task is not None
    name = claim.task.dataset
    if user_code.is_reference(name):
        data = loading.load(name, resolution.data_root(claim.data_root), "cpu")
    else:
        data = loading.random(name, claim.canaries, "cpu")
    rows = torch.randint(0, data.train_examples, (claim.canaries,), generator=rng)
    targets: Tensor = data.train[1][rows]
    return targets


def _labels(model: nn.Module, inputs: Tensor, others: Tensor) -> Tensor:
    """Classes that the model does not predict, so that the loss is large."""
    with torch.no_grad():
        logits = model(inputs)
    predicted: Tensor = (logits.argmax(dim=1) + others) % logits.shape[1]
    return predicted


def _information(model: nn.Module, planted: Canaries, claim: Claim) -> float:
    gradients = clipped_gradients(model, planted, claim.max_grad_norm, losses.of(claim.trial))
    gram = (gradients @ gradients.T).double().cpu() / claim.noise_multiplier**2
    return float(torch.linalg.slogdet(torch.eye(len(gram), dtype=gram.dtype) + gram)[1])
