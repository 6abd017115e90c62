"""Adam (Kingma and Ba, ICLR 2015), on the noisy mean of the clipped gradients."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dpbench.optimizers import OptimizerSpec
from dpbench.trial import Trial

if TYPE_CHECKING:
    import torch
    from torch import nn


def build(parameters: "Iterable[nn.Parameter]", trial: Trial) -> "torch.optim.Adam":
    """PyTorch's Adam; on a GPU one whose steps a CUDA graph can capture."""
    import torch

    parameters = list(parameters)
    return torch.optim.Adam(
        parameters,
        lr=trial.learning_rate,
        foreach=True,
        capturable=all(each.is_cuda for each in parameters),
    )


def learning_rate(batch_size: int) -> float:
    """0.004 at batch size 64, growing with the batch size's fourth root.

    Measured for the tutorial's CNN, twenty epochs of the digits, noise 1, one seed: of 0.0005 to
    0.008 the best is 0.004 at batch size 64, and 0.004 and 0.008 are alike at 256.
    """
    return float(0.004 * (batch_size / 64) ** 0.25)


def baseline_learning_rates(_batch_size: int) -> Sequence[float]:
    """Adam's usual 0.001, and the best of 0.0005 to 0.01 on the digits."""
    return (0.001, 0.003)


def refusal(trial: Trial) -> str | None:
    """Adam has a momentum of its own."""
    if trial.momentum:
        return f"Expected momentum={trial.momentum:g} to be 0 with optimizer='adam'."
    return None


SPEC = OptimizerSpec(
    name="adam",
    build=build,
    learning_rate=learning_rate,
    baseline_learning_rates=baseline_learning_rates,
    refusal=refusal,
)
