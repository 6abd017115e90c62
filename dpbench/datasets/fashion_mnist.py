"""Fashion-MNIST: clothes in the format of MNIST (Xiao, Rasul and Vollgraf 2017)."""

from dataclasses import replace

from dpbench.datasets import idx, mnist

SPEC = replace(
    mnist.SPEC,  # its sizes, and the constants by which its pixels are normalised
    title="Fashion-MNIST",
    origin="which come from another dataset (MNIST) and not from this one",
    source=idx.IdxFiles("FashionMNIST"),
)
