"""What our own engines do with gradients: norms, sums, noise, the mean, an optimizer's step."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from dpbench import optimizers
from dpbench.engines.noise import Noise
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


def noisy_mean(sums: Sequence[Tensor], noise: Noise, batch_size: int) -> list[Tensor]:
    """(sum + noise) / batch_size in the parameters' shapes, of noise that is drawn for this step.

    Args:
        sums: The batch's (clipped) gradient sums, of the parameters' numbers of elements.
        noise: Of the parameters.
        batch_size: The trial's.
    """
    shaped = [part.reshape(each.shape) for each, part in zip(noise.drawn, sums, strict=True)]
    if not noise.spread:
        return list(torch._foreach_div(shaped, batch_size))
    noise.draw()
    noisy = torch._foreach_add(shaped, noise.drawn)  # in the sums' layout, on a CPU the weights'
    torch._foreach_div_(noisy, batch_size)
    return list(noisy)


class NoisySums:
    """A batch's clipped gradient sums, to which the noise is drawn first; see `noisy_mean`.

    Large parameters' sums are added to their noise in place: memory of this size is mapped anew by
    the system each time, which takes longer than to fill it.

    Args:
        noise: Of the parameters.
        batch_size: The trial's.
    """

    def __init__(self, noise: Noise, batch_size: int) -> None:
        self._noise, self._batch_size = noise, batch_size
        self.large = {
            place: each for place, each in enumerate(noise.drawn) if each.numel() >= LARGE
        }
        self._small = {
            place: each for place, each in enumerate(noise.drawn) if place not in self.large
        }

    def begin(self) -> None:
        """Draws the noise of a step; nothing but zeros where the trial has none."""
        self._noise.draw()

    def mean(self, small: Sequence[Tensor]) -> list[Tensor]:
        """All parameters' (sum + noise) / batch_size, valid until the next step begins.

        Args:
            small: The sums of parameters that are not in `large`, in order.
        """
        drawn = list(self._small.values())
        shaped = [part.reshape(each.shape) for each, part in zip(drawn, small, strict=True)]
        means = list(self._noise.drawn)
        if shaped:
            added = torch._foreach_add(shaped, drawn)  # in the sums' layout, on a CPU the weights'
            for place, each in zip(self._small, added, strict=True):
                means[place] = each
        torch._foreach_div_(means, self._batch_size)
        return means
