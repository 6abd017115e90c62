"""The CNN of the Opacus MNIST tutorial: 26,010 parameters."""

from typing import TYPE_CHECKING

from dpbench.models.model_spec import ModelSpec, Shape, takes_only

if TYPE_CHECKING:
    from torch import nn


def _layers(_input_shape: Shape, classes: int) -> "nn.Sequential":
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=3),  # [B, 1, 28, 28] -> [B, 16, 14, 14]
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),  # -> [B, 16, 13, 13]
        nn.Conv2d(16, 32, 4, stride=2),  # -> [B, 32, 5, 5]
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),  # -> [B, 32, 4, 4]
        nn.Flatten(),  # -> [B, 512]
        nn.Linear(512, 32),
        nn.ReLU(),
        nn.Linear(32, classes),
    )


def _multiply_adds(_input_shape: Shape, classes: int) -> int:
    convolutions = 14 * 14 * 16 * 8 * 8 + 5 * 5 * 32 * 16 * 4 * 4
    return convolutions + 512 * 32 + 32 * classes


SPEC = ModelSpec(
    title="the tutorial's CNN",
    layers=_layers,
    multiply_adds=_multiply_adds,
    refusal=takes_only((1, 28, 28)),
)
