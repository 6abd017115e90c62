"""The blocks of `resnet_gn`."""

from torch import Tensor, nn

GROUPS = 8  # of channels that are normalised together


class Block(nn.Module):
    """Two 3 x 3 convolutions with GroupNorm and ReLU, beside a shortcut.

    Args:
        channels: Of the inputs.
        width: Channels of the outputs.
        stride: Of the first convolution.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(GROUPS, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
        self.activation = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, width, H / stride, W / stride]."""
        out: Tensor = self.activation(self.residual(images) + self.shortcut(images))
        return out
