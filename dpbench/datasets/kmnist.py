"""KMNIST: cursive Japanese characters in the format of MNIST (Clanuwat et al. 2018)."""

from dataclasses import replace

from dpbench.datasets import idx, mnist

SPEC = replace(
    mnist.SPEC,  # its sizes, and the constants by which its pixels are normalised
    title="KMNIST",
    origin="which come from another dataset (MNIST) and not from this one",
    source=idx.IdxFiles("KMNIST"),
)
