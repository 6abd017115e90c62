"""Automatic clipping: every gradient is scaled to nearly max_grad_norm, short ones too.

Bu, Wang, Zha and Karypis, "Automatic Clipping: Differentially Private Deep Learning Made Easier and
Stronger", NeurIPS 2023: AUTO-S with gamma = 0.01, here times max_grad_norm. A scaled gradient has
the norm max_grad_norm x norm / (norm + 0.01), which is below max_grad_norm.
"""

from typing import TYPE_CHECKING

from dpbench.clipping import ClippingSpec

if TYPE_CHECKING:
    from torch import Tensor

GAMMA = 0.01


def factors(norms: "Tensor", max_grad_norm: "float | Tensor") -> "Tensor":
    """max_grad_norm / (norm + 0.01)."""
    return max_grad_norm / (norms + GAMMA)


SPEC = ClippingSpec(name="automatic", factors=factors)
