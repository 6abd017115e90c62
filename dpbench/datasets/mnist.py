"""MNIST: handwritten digits (LeCun, Cortes and Burges)."""

from dpbench.datasets import idx
from dpbench.datasets.dataset_spec import DatasetSpec, own_constants

SPEC = DatasetSpec(
    title="MNIST",
    train_examples=idx.TRAIN_EXAMPLES,
    test_examples=idx.TEST_EXAMPLES,
    input_shape=(1, *idx.IMAGE),
    classes=10,
    mean=(0.1307,),  # as in the Opacus tutorial
    std=(0.3081,),
    origin=own_constants("MNIST"),
    model="tutorial-cnn",
    # The smallest grid whose curves have their true shape: from a noise that costs little accuracy,
    # where the widest clip wins, to one that costs much, where the narrowest does.
    sweep={
        "noise_multiplier": [0.6, 1.5, 4.0],
        "max_grad_norm": [0.5, 1.0, 2.0],
        "batch_size": [256, 1024],
        "epochs": 10,
    },
    source=idx.IdxFiles("MNIST"),
)
