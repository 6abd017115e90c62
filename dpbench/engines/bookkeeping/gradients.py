"""Gradients of single examples, by one parameter: their norms and their weighted sum.

Three forms: whole (`Formed`), as outer products to be summed over an example's places
(`OuterProducts`), and as the few rows of a table that an example reads (`Rows`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpbench.engines.update import row_norms


class Gradients(Protocol):
    """The gradients of B examples by one parameter."""

    def norms(self) -> Tensor:
        """[B]."""
        ...

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """The sum of the gradients times their factors [B], of the parameter's shape."""
        ...

    def formed(self) -> Tensor:
        """[B, *the parameter's shape]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Formed:
    """Whole gradients.

    Args:
        whole: [B, *the parameter's shape], in any layout.
    """

    whole: Tensor

    def norms(self) -> Tensor:
        """See `Gradients`."""
        return row_norms(self.whole.reshape(len(self.whole), -1))

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `Gradients`."""
        shape = self.whole.shape[1:]
        return (factors @ self.whole.reshape(len(factors), -1)).view(shape)

    def formed(self) -> Tensor:
        """See `Gradients`."""
        return self.whole


class Joined:
    """Whole gradients by several small parameters, side by side: fewer operations than each alone.

    Args:
        parts: By each parameter.
    """

    def __init__(self, parts: Sequence[Formed]) -> None:
        self._shapes = [each.whole.shape[1:] for each in parts]
        self._rows = torch.cat([each.whole.flatten(1) for each in parts], dim=1)

    def norms(self) -> Tensor:
        """[B], of all of them together."""
        return row_norms(self._rows)

    def weighted_sums(self, factors: Tensor) -> list[Tensor]:
        """As `Gradients.weighted_sum`, of each parameter."""
        sums = (factors @ self._rows).split([shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(sums, self._shapes, strict=True)]


class OuterProducts:
    """The gradients sum over t of back_t inputs_t^T, of a weight [O, I].

    Norms by the cheaper of two ways (Bu, Mao and Xu, "Scalable and Efficient Training of Large
    Convolutional Neural Networks with Differential Privacy", NeurIPS 2022: mixed ghost clipping):
    the Gram matrices of inputs and output gradients [T, T], or the whole gradients [O, I].

    Args:
        inputs: [B, T, I].
        back: [B, T, O].
    """

    def __init__(self, inputs: Tensor, back: Tensor) -> None:
        self._inputs, self._back = inputs, back
        self._whole: Tensor | None = None
        places, features, outputs = *inputs.shape[1:], back.shape[2]
        self._by_gram = places * (features + outputs) < features * outputs

    @staticmethod
    def together(several: "Sequence[OuterProducts]") -> "OuterProducts":
        """The sums of gradients by the same weight, as those of one call at more places."""
        return OuterProducts(
            torch.cat([each._inputs for each in several], dim=1),
            torch.cat([each._back for each in several], dim=1),
        )

    def norms(self) -> Tensor:
        """See `Gradients`."""
        if self._inputs.shape[1] == 1:
            return row_norms(self._inputs[:, 0]) * row_norms(self._back[:, 0])
        if not self._by_gram:
            return row_norms(self.formed().flatten(1))
        inputs, back = self._inputs, self._back
        grams = torch.bmm(inputs, inputs.mT), torch.bmm(back, back.mT)  # [B, T, T]
        squares: Tensor = torch.linalg.vecdot(grams[0].flatten(1), grams[1].flatten(1))
        return squares.clamp_(min=0).sqrt_()  # rounding may take what is 0 below it

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `Gradients`."""
        if self._whole is not None:
            return (factors @ self._whole.flatten(1)).view(self._whole.shape[1:])
        scaled = self._back * factors[:, None, None]
        return scaled.flatten(0, 1).T @ self._inputs.flatten(0, 1)

    def formed(self) -> Tensor:
        """See `Gradients`."""
        if self._whole is None:
            self._whole = torch.bmm(self._back.mT, self._inputs)
        return self._whole


class Rows:
    """Gradients by a table [V, d] of which an example reads a few rows; never dense.

    Args:
        ids: Of the rows that are read, int64 [B, T].
        back: The gradients by what is read [B, T, d].
        table: [V, d].
    """

    def __init__(self, ids: Tensor, back: Tensor, table: Tensor) -> None:
        self._table = table
        self._ids, self._back = ids, back
        examples, places = ids.shape
        ordered, order = ids.sort(dim=1)
        # the rows that an example reads are numbered, so that a row read twice is added up
        number = torch.zeros_like(ids)
        torch.cumsum(ordered[:, 1:] != ordered[:, :-1], dim=1, out=number[:, 1:])
        first = torch.arange(0, examples * places, places, device=ids.device)
        number += first[:, None]
        self._place = torch.empty_like(ids).scatter_(1, order, number).flatten()
        self._read = (
            torch.zeros_like(ids).view(-1).index_copy_(0, number.view(-1), ordered.view(-1))
        )
        self._rows = back.new_zeros(examples * places, back.shape[2])
        self._rows.index_add_(0, self._place, back.reshape(-1, back.shape[2]))

    def norms(self) -> Tensor:
        """See `Gradients`."""
        return row_norms(self._rows.reshape(len(self._ids), -1))

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `Gradients`."""
        scaled = self._back * factors[:, None, None]
        total = torch.zeros_like(self._table)
        return total.index_add_(0, self._ids.reshape(-1), scaled.reshape(-1, scaled.shape[2]))

    def formed(self) -> Tensor:
        """See `Gradients`."""
        examples = len(self._ids)
        size, width = self._table.shape
        dense = self._back.new_zeros(examples * size, width)
        first = torch.arange(0, examples * size, size, device=self._ids.device)
        at = (self._ids + first[:, None]).view(-1)
        return dense.index_add_(0, at, self._back.reshape(-1, width)).view(examples, size, width)


def added_up(several: Sequence[Gradients]) -> Gradients:
    """The sums of the gradients of several calls by the same parameter."""
    if len(several) == 1:
        return several[0]
    products = [each for each in several if isinstance(each, OuterProducts)]
    if len(products) == len(several):
        return OuterProducts.together(products)
    whole = several[0].formed()
    for each in several[1:]:
        whole = whole + each.formed()
    return Formed(whole)
