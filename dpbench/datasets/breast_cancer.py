"""Wisconsin breast cancer: 30 measurements of nuclei, malignant or benign (Street et al. 1993).

It comes with scikit-learn, as 569 examples.
"""

from typing import TYPE_CHECKING

from dpbench.datasets.dataset_spec import DatasetSpec, own_constants
from dpbench.datasets.embedded import Embedded

if TYPE_CHECKING:
    from torch import Tensor

_TRAIN_EXAMPLES = 455  # a random choice; the other 114 are the test set


def _examples() -> "tuple[Tensor, Tensor]":
    """Float32 [N, 30] and int64 [N], 0 malignant and 1 benign, in a random order."""
    import numpy as np
    import torch
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return torch.from_numpy(features[order]).float(), torch.from_numpy(labels[order]).long()


SPEC = DatasetSpec(
    title="breast cancer",
    train_examples=_TRAIN_EXAMPLES,
    test_examples=114,
    input_shape=(30,),
    classes=2,
    kind="features",
    mean=(
        *(14.11, 19.29, 91.76, 653.6, 0.09607, 0.1023, 0.08543, 0.04783, 0.1805, 0.06252),
        *(0.4108, 1.222, 2.901, 41.12, 0.007136, 0.02522, 0.03172, 0.01189, 0.02037, 0.003798),
        *(16.26, 25.67, 107.1, 880.9, 0.1322, 0.2483, 0.265, 0.1134, 0.2878, 0.08334),
    ),
    std=(
        *(3.509, 4.29, 24.1, 350.8, 0.01327, 0.04811, 0.07387, 0.03652, 0.02621, 0.006782),
        *(0.2877, 0.5402, 2.081, 48.17, 0.003153, 0.01783, 0.0311, 0.006253, 0.007676, 0.002698),
        *(4.833, 6.136, 33.46, 572.1, 0.02265, 0.1509, 0.2009, 0.06352, 0.05697, 0.01768),
    ),
    origin=own_constants("breast cancer", "features"),
    model="logistic",
    # the range of noise of digits', at batches of a share of the training set that is as large
    sweep={
        "noise_multiplier": [1.0, 2.0, 4.0],
        "max_grad_norm": [0.5, 1.0, 2.0],
        "batch_size": [32, 128],
        "epochs": 20,
    },
    source=Embedded(_examples, _TRAIN_EXAMPLES),
)
