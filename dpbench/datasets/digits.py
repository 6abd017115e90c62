"""scikit-learn's handwritten digits, enlarged to MNIST's 28 x 28 pixels. They need no download."""

from typing import TYPE_CHECKING

from dpbench.datasets.dataset_spec import DatasetSpec
from dpbench.datasets.embedded import Embedded

if TYPE_CHECKING:
    from torch import Tensor

_TRAIN_EXAMPLES = 1_437  # of 1,797 in their own order; the last 360 are the test set


def _examples() -> "tuple[Tensor, Tensor]":
    """Uint8 [N, 1, 28, 28] and int64 [N]."""
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)  # 8 x 8 grey levels from 0 to 16
    small = torch.from_numpy(images).float().view(-1, 1, 8, 8) * (255 / 16)
    large = F.interpolate(small, size=(28, 28), mode="bilinear").round().to(torch.uint8)
    return large, torch.from_numpy(labels).long()


SPEC = DatasetSpec(
    title="digits",
    train_examples=_TRAIN_EXAMPLES,
    test_examples=360,
    input_shape=(1, 28, 28),
    classes=10,
    # Digits stand in for MNIST. Their own would be 0.305 and 0.324: these cost no privacy, and they
    # are what every published trial on digits was normalised by.
    mean=(0.1307,),
    std=(0.3081,),
    origin="which come from another dataset (MNIST) and not from this one",
    model="tutorial-cnn",
    # as MNIST's, for a training set of a fortieth of its size
    sweep={
        "noise_multiplier": [1.0, 2.0, 4.0],
        "max_grad_norm": [1.0, 2.0, 4.0],
        "batch_size": [64, 256],
        "epochs": 20,
    },
    source=Embedded(_examples, _TRAIN_EXAMPLES),
    stands_in_for="mnist",
)
