"""The networks that are trained."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from dpbench.errors import BadInput


def tutorial_cnn(*, seed: int, device: str) -> nn.Sequential:
    """The CNN of the Opacus MNIST tutorial, 26,010 parameters, float32 [B, 1, 28, 28] -> [B, 10].

    Args:
        seed: Of the initial weights, which are PyTorch's default ones.
        device: Where it is put.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 8, stride=2, padding=3),  # [B, 1, 28, 28] -> [B, 16, 14, 14]
            nn.ReLU(),
            nn.MaxPool2d(2, stride=1),  # -> [B, 16, 13, 13]
            nn.Conv2d(16, 32, 4, stride=2),  # -> [B, 32, 5, 5]
            nn.ReLU(),
            nn.MaxPool2d(2, stride=1),  # -> [B, 32, 4, 4]
            nn.Flatten(),  # -> [B, 512]
            nn.Linear(512, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )
    return model.to(device)


MODELS: Mapping[str, Callable[..., nn.Sequential]] = MappingProxyType(
    {"tutorial-cnn": tutorial_cnn}
)


def build(name: str, *, seed: int, device: str) -> nn.Sequential:
    """The network of that name; what a trial says that it trains, it trains.

    Args:
        name: A key of MODELS.
        seed: Of the initial weights.
        device: Where it is put.

    Raises:
        BadInput: There is no such network.
    """
    if name not in MODELS:
        raise BadInput(f"Expected model={name!r} to be one of {', '.join(MODELS)}.")
    return MODELS[name](seed=seed, device=device)
