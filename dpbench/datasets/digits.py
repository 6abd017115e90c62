"""scikit-learn's handwritten digits, enlarged to MNIST's 28 x 28 pixels. They need no download."""

from pathlib import Path
from typing import TYPE_CHECKING

from dpbench.datasets import mnist
from dpbench.datasets.dataset_spec import DatasetSpec

if TYPE_CHECKING:
    from torch import Tensor

_TRAIN_EXAMPLES = 1_437  # of 1,797 in their own order; the last 360 are the test set


class _Embedded:
    """Examples that come with scikit-learn. A `Source`."""

    def present(self, _data_root: Path) -> bool:
        return True

    def unpacked(self, _data_root: Path) -> bool:
        return True

    def read(self, _data_root: Path) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
        """As `Source.read`: uint8 [N, 1, 28, 28] and int64 [N]."""
        import torch
        import torch.nn.functional as F
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)  # 8 x 8 grey levels from 0 to 16
        small = torch.from_numpy(images).float().view(-1, 1, 8, 8) * (255 / 16)
        large = F.interpolate(small, size=(28, 28), mode="bilinear").round().to(torch.uint8)
        classes = torch.from_numpy(labels).long()
        return (
            (large[:_TRAIN_EXAMPLES], classes[:_TRAIN_EXAMPLES]),
            (large[_TRAIN_EXAMPLES:], classes[_TRAIN_EXAMPLES:]),
        )

    def remedy(self, _data_root: Path) -> str:
        return "Install scikit-learn"


SPEC = DatasetSpec(
    title="digits",
    train_examples=_TRAIN_EXAMPLES,
    test_examples=360,
    input_shape=(1, 28, 28),
    classes=10,
    mean=mnist.SPEC.mean,
    std=mnist.SPEC.std,
    origin="which come from another dataset (MNIST) and not from this one",
    model="tutorial-cnn",
    # as MNIST's, for a training set of a fortieth of its size
    sweep={
        "noise_multiplier": [1.0, 2.0, 4.0],
        "max_grad_norm": [1.0, 2.0, 4.0],
        "batch_size": [64, 256],
        "epochs": 20,
    },
    source=_Embedded(),
    stands_in_for="mnist",
)
