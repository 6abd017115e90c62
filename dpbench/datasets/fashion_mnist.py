"""Fashion-MNIST: clothes in the format of MNIST (Xiao, Rasul and Vollgraf 2017)."""

from dataclasses import replace

from dpbench.datasets import idx, mnist
from dpbench.datasets.dataset_spec import own_constants

SPEC = replace(
    mnist.SPEC,  # its sizes and its default sweep
    title="Fashion-MNIST",
    mean=(0.2860,),
    std=(0.3530,),
    origin=own_constants("Fashion-MNIST"),
    source=idx.IdxFiles("FashionMNIST"),
)
