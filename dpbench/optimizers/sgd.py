"""Stochastic gradient descent, with momentum where the trial has one."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dpbench.optimizers import OptimizerSpec
from dpbench.trial import Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dpbench.optimizers import Step


def build(parameters: "Iterable[nn.Parameter]", trial: Trial) -> "torch.optim.SGD":
    """PyTorch's SGD."""
    import torch

    return torch.optim.SGD(
        parameters, lr=trial.learning_rate, momentum=trial.momentum, foreach=True
    )


def direct(parameters: "list[nn.Parameter]", trial: Trial) -> "tuple[Step, list[Tensor]]":
    """The function of PyTorch that `torch.optim.SGD` calls, and its momentum buffers."""
    import torch
    from torch.optim.sgd import sgd

    buffers = [torch.zeros_like(each) for each in parameters] if trial.momentum else []

    @torch.no_grad()
    def step(gradients: "list[Tensor]") -> None:
        sgd(
            [*parameters],
            gradients,
            [*buffers] or [None] * len(parameters),
            foreach=True,
            lr=trial.learning_rate,
            momentum=trial.momentum,
            dampening=0.0,
            weight_decay=0.0,
            nesterov=False,
            maximize=False,
        )

    return step, buffers


def learning_rate(batch_size: int) -> float:
    """The private learning rate grows with the batch size.

    The noise that a step adds to the weights is
    learning_rate x noise_multiplier x max_grad_norm / batch_size, so a larger batch allows a longer
    step, and needs it to go as far in its fewer steps.
    """
    return batch_size / 1024


def baseline_learning_rates(batch_size: int) -> Sequence[float]:
    """Without noise the curvature of the loss is the limit; 0.1 is Opacus' published baseline.

    Measured for the tutorial's CNN, ten epochs of MNIST and twenty of the digits, two or three
    seeds. The best mean is at 0.1 for batch sizes of 64 and more; at 16, 0.025 to 0.1 are alike. At
    0.2 some seeds stay at chance, and some diverge at batch size 64 and less.
    """
    return (0.025, 0.05, 0.1) if batch_size <= 64 else (0.05, 0.1)


SPEC = OptimizerSpec(
    name="sgd",
    build=build,
    direct=direct,
    learning_rate=learning_rate,
    baseline_learning_rates=baseline_learning_rates,
    stackable=True,
)
