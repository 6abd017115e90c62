"""scikit-learn's handwritten digits, enlarged to MNIST's 28 x 28 pixels. They need no download."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench.datasets.dataset_spec import DatasetSpec
from dpbench.datasets.embedded import Embedded

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_TRAIN_EXAMPLES = 1_437  # of 1,797 in their own order; the last 360 are the test set


def _examples() -> "tuple[Tensor, Tensor]":
    """Uint8 [N, 1, 28, 28] and int64 [N]."""
    import torch
    import torch.nn.functional as F

    rows = torch.from_numpy(_rows())  # [N, 65]
    small = rows[:, :64].float().view(-1, 1, 8, 8) * (255 / 16)  # grey levels from 0 to 16
    large = F.interpolate(small, size=(28, 28), mode="bilinear").round().to(torch.uint8)
    return large, rows[:, 64].long()


def _rows() -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """64 pixels and a label a row: the file that `sklearn.datasets.load_digits` reads.

    Importing sklearn for it takes each worker a second.

    Raises:
        OSError: scikit-learn is not there, or keeps the digits elsewhere.
    """
    import numpy as np

    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise FileNotFoundError("scikit-learn is not installed")
    file = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
    return np.loadtxt(file, delimiter=",")


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
