"""Clipping rules. Each is one file that exports `SPEC`; a new one is one new file.

Which engine computes which rule is said by `EngineSpec.supports`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpbench import plugins

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippingSpec:
    """How an example's gradient is scaled before it is summed.

    Attributes:
        name: As in `Trial.clipping`; the file's name with `-` for `_`.
        factors: Norms of the examples' whole gradients [..., B] and max_grad_norm, a number or a
            tensor that broadcasts -> what each gradient is multiplied by, [..., B]. A scaled
            gradient must have a norm of at most max_grad_norm: that is the sensitivity of the sum,
            for neighbours that differ by adding or removing one example.
    """

    name: str
    factors: "Callable[[Tensor, float | Tensor], Tensor]"


def names() -> tuple[str, ...]:
    """The rules' names, in alphabetical order."""
    return plugins.names("clipping")


def spec(name: str) -> ClippingSpec:
    """The rule of that name.

    Raises:
        BadInput: There is no such rule.
    """
    found: ClippingSpec = plugins.spec("clipping", name)
    return found
