"""Logistic regression: one linear layer on the inputs."""

import math
from typing import TYPE_CHECKING

from dpbench.models.model_spec import ModelSpec, Shape

if TYPE_CHECKING:
    from torch import nn


def _layers(input_shape: Shape, classes: int) -> "nn.Sequential":
    from torch import nn

    return nn.Sequential(
        nn.Flatten(),  # [B, *input_shape] -> [B, features]
        nn.Linear(math.prod(input_shape), classes),
    )


def _multiply_adds(input_shape: Shape, classes: int) -> int:
    return math.prod(input_shape) * classes


SPEC = ModelSpec(title="logistic regression", layers=_layers, multiply_adds=_multiply_adds)
