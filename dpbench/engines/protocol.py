"""What an engine is, and what all of them share."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from dpbench.trial import Trial


class Engine(Protocol):
    """One way to compute a training step of a trial on its model."""

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Takes one optimizer step on a Poisson batch, which may be empty.

        The gradient is the sum over the batch, clipped and noised where the engine is private,
        divided by the trial's batch_size, which is the expected size and not that of this batch.

        Args:
            images: Normalised, float32 [B, 1, 28, 28].
            labels: Classes, int64 [B].

        Returns:
            The sum of the examples' cross entropy before the step, float32 [], on their device.
        """
        ...


def sgd(model: nn.Module, trial: Trial) -> torch.optim.SGD:
    """The optimizer of every engine; with momentum, its velocities are there from the start."""
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.learning_rate, momentum=trial.momentum)
    if trial.momentum:
        for parameter in model.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def changed_in_place(optimizer: torch.optim.SGD) -> list[Tensor]:
    """The tensors that a step of `sgd` changes: weights, and with momentum their velocities."""
    weights = [each.detach() for group in optimizer.param_groups for each in group["params"]]
    return weights + [state["momentum_buffer"] for state in optimizer.state.values()]


def physical_batches(
    images: Tensor, labels: Tensor, physical_batch_size: int | None
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Even parts of a batch, none larger than physical_batch_size, and whether more follow.

    An empty batch is one empty part.
    """
    parts = max(1, math.ceil(len(labels) / (physical_batch_size or math.inf)))
    for index, part in enumerate(zip(images.chunk(parts), labels.chunk(parts), strict=True)):
        yield *part, index < parts - 1


def apply_noisy_sum(
    parameters: Sequence[nn.Parameter],
    sums: Sequence[Tensor],
    trial: Trial,
    noise: torch.Generator,
) -> None:
    """Sets each .grad to (sum + noise) / batch_size; without noise where the trial has none.

    The noise is Gaussian of standard deviation noise_multiplier x max_grad_norm, drawn parameter by
    parameter as Opacus draws it, so that one generator gives every engine the same.

    Args:
        parameters: The model's.
        sums: The batch's (clipped) gradient sums, of the parameters' numbers of elements.
        trial: Holds batch_size and the privacy parameters.
        noise: Generator on the parameters' device.
    """
    spread = (trial.noise_multiplier or 0.0) * (trial.max_grad_norm or 0.0)
    for parameter, part in zip(parameters, sums, strict=True):
        gradient = part.reshape(parameter.shape)
        if spread:
            drawn = torch.normal(
                0.0, spread, parameter.shape, generator=noise, device=parameter.device
            )
            gradient = drawn.add_(gradient)
        parameter.grad = gradient / trial.batch_size


@contextmanager
def no_hook_warning() -> Iterator[None]:
    """Leaves out PyTorch's warning that images need no gradient, which Opacus' hooks set off."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield
