"""A residual network: with GroupNorm, which DP-SGD can train, and with BatchNorm, which it cannot.

BatchNorm normalises an example by the others of its batch, so no bound on one example holds.
"""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(4, width) if norm == "group" else nn.BatchNorm2d(width)

    def forward(self, images: Tensor) -> Tensor:
        return images + torch.relu(self.norm(self.convolution(images)))


def make(width: int = 8, blocks: int = 2, norm: str = "group") -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),  # [B, 1, 8, 8] -> [B, width, 8, 8]
        *(Block(width, norm) for _ in range(blocks)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )
