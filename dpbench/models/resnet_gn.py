"""A small ResNet with GroupNorm in place of BatchNorm, which mixes examples.

The CIFAR ResNet of He et al. 2016, section 4.2, with two blocks in each of three stages: a 3 x 3
convolution to 16 channels, stages of 16, 32 and 64 channels, the second and third at half the size
of the one before, the mean over the image and a linear layer.
"""

from typing import TYPE_CHECKING

from dpbench.models.model_spec import ModelSpec, Shape, takes_images

if TYPE_CHECKING:
    from torch import nn

STAGES = ((16, 1), (32, 2), (64, 2))  # channels, stride
BLOCKS = 2  # in each stage


def _layers(input_shape: Shape, classes: int) -> "nn.Sequential":
    from torch import nn

    from dpbench.models.residual_layers import GROUPS, Block

    first = STAGES[0][0]
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], first, 3, padding=1, bias=False),
        nn.GroupNorm(GROUPS, first),
        nn.ReLU(),
    ]
    channels = first
    for width, stride in STAGES:
        for block in range(BLOCKS):
            layers.append(Block(channels, width, 1 if block else stride))
            channels = width
    return nn.Sequential(
        *layers,  # [B, C, H, W] -> [B, 64, H / 4, W / 4]
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),  # -> [B, 64]
        nn.Linear(channels, classes),
    )


def _multiply_adds(input_shape: Shape, classes: int) -> int:
    channels, height, width = input_shape
    total, before = 9 * channels * STAGES[0][0] * height * width, STAGES[0][0]
    for after, stride in STAGES:
        height, width = -(-height // stride), -(-width // stride)
        shortcut = before * after if stride > 1 or before != after else 0
        convolutions = 9 * after * (before + after) + shortcut + 2 * 9 * after**2 * (BLOCKS - 1)
        total += convolutions * height * width
        before = after
    return total + before * classes


SPEC = ModelSpec(
    title="the ResNet with GroupNorm",
    layers=_layers,
    multiply_adds=_multiply_adds,
    refusal=takes_images,
)
