"""A linear layer on scattering features (Tramèr and Boneh 2021).

The features are fixed, and computed once: the wavelet scattering transform of order 2 at the scale
4, with 8 angles, which makes 81 channels of each channel at a quarter of the size. Each example's
features are then normalised in 27 groups of channels, by their own mean and variance: nothing is
learned from the data without noise. Tramèr and Boneh's data normalisation, by means and variances
over the training set, costs privacy and is not offered.
"""

from typing import TYPE_CHECKING

from dpbench.models.model_spec import ModelSpec, Shape, takes_images

if TYPE_CHECKING:
    from torch import Tensor, nn

CHANNELS, STRIDE = 81, 4  # of the scattering transform
GROUPS = 27


def _features(images: "Tensor") -> "Tensor":
    """[B, C, H, W] -> [B, 81 C, H / 4, W / 4]."""
    import torch.nn.functional as F

    from dpbench.models import scattering

    return F.group_norm(scattering.scatter(images), GROUPS)


def _size(input_shape: Shape) -> int:
    channels, height, width = input_shape
    return CHANNELS * channels * (height // STRIDE) * (width // STRIDE)


def _layers(input_shape: Shape, classes: int) -> "nn.Sequential":
    from torch import nn

    return nn.Sequential(
        nn.Flatten(),  # [B, 81 C, H / 4, W / 4] -> [B, features]
        nn.Linear(_size(input_shape), classes),
    )


def _multiply_adds(input_shape: Shape, classes: int) -> int:
    """Of the linear layer; the features are computed before the first step."""
    return _size(input_shape) * classes


def _refusal(input_shape: Shape, classes: int) -> str | None:
    if (reason := takes_images(input_shape, classes)) is not None:
        return reason
    _, height, width = input_shape
    if min(height, width) < 2 * STRIDE or height % STRIDE or width % STRIDE:
        return (
            f"it takes images whose sides are multiples of {STRIDE} from {2 * STRIDE} pixels on, "
            f"not {height} x {width}"
        )
    return None


SPEC = ModelSpec(
    title="a linear layer on scattering features",
    layers=_layers,
    multiply_adds=_multiply_adds,
    features=_features,
    refusal=_refusal,
)
