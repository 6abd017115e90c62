"""KMNIST: cursive Japanese characters in the format of MNIST (Clanuwat et al. 2018)."""

from dataclasses import replace

from dpbench.datasets import idx, mnist
from dpbench.datasets.dataset_spec import own_constants

SPEC = replace(
    mnist.SPEC,  # its sizes and its default sweep
    title="KMNIST",
    mean=(0.1918,),
    std=(0.3483,),
    origin=own_constants("KMNIST"),
    source=idx.IdxFiles("KMNIST"),
)
