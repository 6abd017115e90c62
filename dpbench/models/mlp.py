"""A multilayer perceptron with one hidden layer of 128 units."""

import math
from typing import TYPE_CHECKING

from dpbench.models.model_spec import ModelSpec, Shape

if TYPE_CHECKING:
    from torch import nn

HIDDEN = 128


def _layers(input_shape: Shape, classes: int) -> "nn.Sequential":
    from torch import nn

    return nn.Sequential(
        nn.Flatten(),  # [B, *input_shape] -> [B, features]
        nn.Linear(math.prod(input_shape), HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, classes),
    )


def _multiply_adds(input_shape: Shape, classes: int) -> int:
    return HIDDEN * (math.prod(input_shape) + classes)


SPEC = ModelSpec(
    title="a perceptron with one hidden layer", layers=_layers, multiply_adds=_multiply_adds
)
