"""The networks that are trained."""

import torch
from torch import nn


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
