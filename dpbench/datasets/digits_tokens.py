"""scikit-learn's handwritten digits as sequences: each of the 64 grey levels is a token.

Images as sequences of grey levels are a task of Long Range Arena (Tay et al. 2021). The digits come
with scikit-learn, and are split as in `digits`.
"""

from typing import TYPE_CHECKING

from dpbench.datasets import digits
from dpbench.datasets.dataset_spec import DatasetSpec
from dpbench.datasets.embedded import Embedded

if TYPE_CHECKING:
    from torch import Tensor


def _examples() -> "tuple[Tensor, Tensor]":
    """Token ids, int64 [N, 64], row after row of 8 x 8 pixels; and int64 [N]."""
    import torch
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(levels).long(), torch.from_numpy(labels).long()


SPEC = DatasetSpec(
    title="digits as tokens",
    train_examples=digits.SPEC.train_examples,
    test_examples=digits.SPEC.test_examples,
    input_shape=(64,),
    classes=10,
    kind="tokens",
    vocabulary=17,  # grey levels 0 to 16
    model="transformer",
    sweep={**digits.SPEC.sweep, "learning_rate": [0.5]},  # at lower ones it learns little
    source=Embedded(_examples, digits.SPEC.train_examples),
)
