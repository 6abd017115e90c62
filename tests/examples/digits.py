"""scikit-learn's handwritten digits, 8 x 8 grey levels, for the models beside this file."""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import dpbench


def load(root: Path) -> dpbench.Data:
    del root
    images, classes = load_digits(return_X_y=True)
    pixels = images[:240, None].astype(np.uint8).reshape(240, 1, 8, 8)
    return dpbench.Data(
        train=(pixels[:200], classes[:200]),
        test=(pixels[200:], classes[200:240]),
        prepare=scaled,
    )


def scaled(pixels: Tensor) -> Tensor:
    return pixels.to(torch.float32).div_(16)
