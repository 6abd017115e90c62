"""What our own engines do with gradients: norms, sums, noise, the mean, an optimizer's step."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from dpbench import optimizers
from dpbench.trial import Trial

LARGE = 2**16  # numbers in a parameter whose sums have memory of their own


class Update:
    """Steps of the trial's optimizer along gradients that are given.

    Args:
        parameters: Changed in place.
        trial: Names the optimizer and holds its learning rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], trial: Trial) -> None:
        self._parameters = list(parameters)
        spec = optimizers.spec(trial.optimizer)
        if spec.direct is not None:
            self._take, self._changed = spec.direct(self._parameters, trial)
        else:
            self._take, self._changed = _by_optimizer(
                self._parameters, spec.build(self._parameters, trial)
            )

    @property
    def state(self) -> list[Tensor]:
        """The tensors that a step changes: the weights, and the optimizer's state."""
        return [each.detach() for each in self._parameters] + self._changed

    def step(self, gradients: Iterable[Tensor]) -> None:
        """Takes a step along gradients of the parameters' shapes."""
        self._take(list(gradients))


def _by_optimizer(
    parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[Callable[[list[Tensor]], None], list[Tensor]]:
    """The optimizer's step as a function of the gradients, and the state that it changes.

    A step along no gradient makes the state, which is then set back to zero. So it has its final
    memory from the start, as a CUDA graph needs.
    """

    def step(gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None

    step([torch.zeros_like(each) for each in parameters])
    state = [
        value
        for parameter in parameters
        for value in optimizer.state[parameter].values()
        if isinstance(value, Tensor)
    ]
    for each in state:
        each.zero_()
    return step, state


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
    noisy = torch._foreach_add(shaped, drawn)  # in the sums' layout, on a CPU the weights'
    torch._foreach_div_(noisy, trial.batch_size)
    return list(noisy)


class NoisySums:
    """A batch's clipped gradient sums, to which the noise is drawn first; see `noisy_mean`.

    Large parameters' keep their memory from step to step, and take sums in place: memory of this
    size is mapped anew by the system each time, which takes longer than to fill it.

    Args:
        parameters: The model's.
        trial: As `noisy_mean`.
        noise: Likewise.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], trial: Trial, noise: torch.Generator
    ) -> None:
        self._trial, self._noise = trial, noise
        self._spread = (trial.noise_multiplier or 0.0) * (trial.max_grad_norm or 0.0)
        # contiguous, as Opacus draws
        self._noisy = [
            torch.empty(each.shape, device=each.device, dtype=each.dtype) for each in parameters
        ]
        self.large = {
            place: each for place, each in enumerate(self._noisy) if each.numel() >= LARGE
        }
        self._small = {
            place: each for place, each in enumerate(self._noisy) if place not in self.large
        }

    def begin(self) -> None:
        """Draws the noise of a step; nothing but zeros where the trial has none."""
        for each in self._noisy:
            if self._spread:
                each.normal_(0.0, self._spread, generator=self._noise)
            else:
                each.zero_()

    def mean(self, small: Sequence[Tensor]) -> list[Tensor]:
        """All parameters' (sum + noise) / batch_size, valid until the next step begins.

        Args:
            small: The sums of parameters that are not in `large`, in order.
        """
        drawn = list(self._small.values())
        shaped = [part.reshape(each.shape) for each, part in zip(drawn, small, strict=True)]
        means = list(self._noisy)
        if shaped:
            added = torch._foreach_add(shaped, drawn)  # in the sums' layout, on a CPU the weights'
            for place, each in zip(self._small, added, strict=True):
                means[place] = each
        torch._foreach_div_(means, self._trial.batch_size)
        return means
