"""What our own engines do with gradients: norms, sums, noise, the mean, a step of SGD."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dpbench.trial import Trial


class Sgd:
    """Plain SGD by the arithmetic of `torch.optim.SGD`.

    That one does more around a step than in it, and its first use imports PyTorch's compiler, for
    which every worker would wait.

    Args:
        parameters: Changed in place.
        trial: Learning rate and momentum.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], trial: Trial) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._learning_rate, self._momentum = trial.learning_rate, trial.momentum
        moving = self._parameters if trial.momentum else []
        self._velocities = [torch.zeros_like(each.detach()) for each in moving]

    @property
    def state(self) -> list[Tensor]:
        """The tensors that a step changes: weights, and with momentum their velocities."""
        return [each.detach() for each in self._parameters] + self._velocities

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        """Takes a step along gradients of the parameters' shapes."""
        if self._momentum:
            torch._foreach_mul_(self._velocities, self._momentum)
            torch._foreach_add_(self._velocities, gradients)
            gradients = self._velocities
        torch._foreach_add_(self._parameters, gradients, alpha=-self._learning_rate)


def add_up(sums: list[Tensor], part: list[Tensor]) -> list[Tensor]:
    """The sums over the parts of a batch so far, none before the first, with another one.

    Not in place: gradients that autograd gives may share memory.
    """
    return list(torch._foreach_add(sums, part)) if sums else part


def row_norms(part: Tensor) -> Tensor:
    """The norms of gradients, [..., N] -> [...], in one pass over memory."""
    norms: Tensor = torch.linalg.vector_norm(part, dim=-1)
    return norms


def noisy_mean(
    parameters: Sequence[nn.Parameter],
    sums: Sequence[Tensor],
    trial: Trial,
    noise: torch.Generator,
) -> list[Tensor]:
    """(sum + noise) / batch_size in the parameters' shapes; without noise where the trial has none.

    The noise is Gaussian of standard deviation noise_multiplier x max_grad_norm, drawn parameter by
    parameter as Opacus draws it, so that one generator gives every engine the same.

    Args:
        parameters: The model's.
        sums: The batch's (clipped) gradient sums, of the parameters' numbers of elements.
        trial: Holds batch_size and the privacy parameters.
        noise: Generator on the parameters' device.
    """
    spread = (trial.noise_multiplier or 0.0) * (trial.max_grad_norm or 0.0)
    shaped = [part.reshape(each.shape) for each, part in zip(parameters, sums, strict=True)]
    if not spread:
        return list(torch._foreach_div(shaped, trial.batch_size))
    drawn = [
        torch.normal(0.0, spread, each.shape, generator=noise, device=each.device)
        for each in parameters
    ]
    noisy = list(torch._foreach_add(shaped, drawn))  # in the sums' layout, on a CPU the weights'
    torch._foreach_div_(noisy, trial.batch_size)
    return noisy
