"""Flat clipping: gradients longer than max_grad_norm are scaled down to it.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016; with the 1e-6 of Opacus.
"""

from typing import TYPE_CHECKING

from dpbench.clipping import ClippingSpec

if TYPE_CHECKING:
    from torch import Tensor


def factors(norms: "Tensor", max_grad_norm: "float | Tensor") -> "Tensor":
    """min(1, max_grad_norm / (norm + 1e-6))."""
    return (max_grad_norm / (norms + 1e-6)).clamp_(max=1.0)


SPEC = ClippingSpec(name="flat", factors=factors)
