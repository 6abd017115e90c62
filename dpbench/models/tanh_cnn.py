"""The tanh CNNs of Papernot et al. 2021, as Tramèr and Boneh 2021 train them end to end.

26,010 parameters for MNIST's images, 550,570 for CIFAR-10's. Bounded activations keep gradients
small, so that clipping changes them less than it does behind ReLU.
"""

from typing import TYPE_CHECKING

from dpbench.models.model_spec import ModelSpec, Shape, takes_only

if TYPE_CHECKING:
    from torch import nn

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def _layers(input_shape: Shape, classes: int) -> "nn.Sequential":
    return _for_mnist(classes) if input_shape == MNIST else _for_cifar(classes)


def _for_mnist(classes: int) -> "nn.Sequential":
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=2),  # [B, 1, 28, 28] -> [B, 16, 13, 13]
        nn.Tanh(),
        nn.MaxPool2d(2, stride=1),  # -> [B, 16, 12, 12]
        nn.Conv2d(16, 32, 4, stride=2),  # -> [B, 32, 5, 5]
        nn.Tanh(),
        nn.MaxPool2d(2, stride=1),  # -> [B, 32, 4, 4]
        nn.Flatten(),  # -> [B, 512]
        nn.Linear(512, 32),
        nn.Tanh(),
        nn.Linear(32, classes),
    )


def _for_cifar(classes: int) -> "nn.Sequential":
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128):  # each halves the image: 32 x 32 -> 4 x 4
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.Tanh(),
            nn.MaxPool2d(2),
        ]
        channels = width
    return nn.Sequential(
        *layers,  # [B, 3, 32, 32] -> [B, 128, 4, 4]
        nn.Flatten(),  # -> [B, 2048]
        nn.Linear(2048, 128),
        nn.Tanh(),
        nn.Linear(128, classes),
    )


def _multiply_adds(input_shape: Shape, classes: int) -> int:
    if input_shape == MNIST:
        convolutions = 13 * 13 * 16 * 8 * 8 + 5 * 5 * 32 * 16 * 4 * 4
        return convolutions + 512 * 32 + 32 * classes
    convolutions = sum(
        side * side * width * (channels + width) * 3 * 3
        for side, channels, width in ((32, 3, 32), (16, 32, 64), (8, 64, 128))
    )
    return convolutions + 2048 * 128 + 128 * classes


SPEC = ModelSpec(
    title="the tanh CNN",
    layers=_layers,
    multiply_adds=_multiply_adds,
    refusal=takes_only(MNIST, CIFAR),
)
