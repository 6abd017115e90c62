"""Gradients of single examples, by one parameter: their norms and their weighted sum.

Three forms: whole (`Formed`), as outer products to be summed over an example's places
(`OuterProducts`), and as the few rows of a table that an example reads (`Rows`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
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

    def add_to(self, total: Tensor, factors: Tensor) -> None:
        """Adds `weighted_sum` to a contiguous tensor of the parameter's shape."""
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

    def add_to(self, total: Tensor, factors: Tensor) -> None:
        """See `Gradients`."""
        total.add_(self.weighted_sum(factors))

    def formed(self) -> Tensor:
        """See `Gradients`."""
        return self.whole


class Kept:
    """Memory for gradients that are formed, the same from pass to pass.

    On a CPU: the system maps memory of this size anew each time, which takes as long as to form
    them.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def matrices(self, shape: tuple[int, int, int], like: Tensor) -> Tensor:
        """Of this shape, of the other tensor's type and on its device, with any numbers."""
        if like.device.type != "cpu":
            return like.new_empty(shape)
        kept = self._memory
        if kept is None or len(kept) < shape[0] or kept.shape[1:] != shape[1:]:
            kept = self._memory = like.new_empty(shape)
        return kept[: shape[0]]


class OuterProducts:
    """The gradients sum over t of back_t inputs_t^T, of a weight [O, I].

    Norms by the cheaper of two ways (Bu, Mao and Xu, "Scalable and Efficient Training of Large
    Convolutional Neural Networks with Differential Privacy", NeurIPS 2022: mixed ghost clipping):
    the Gram matrices of inputs and output gradients [T, T], or the whole gradients [O, I].

    Args:
        inputs: [B, T, I].
        back: [B, T, O].
        kept: Where whole gradients are formed, if they are.
    """

    def __init__(self, inputs: Tensor, back: Tensor, kept: Kept) -> None:
        self._inputs, self._back, self._kept = inputs, back, kept
        self._whole: Tensor | None = None
        places, features, outputs = *inputs.shape[1:], back.shape[2]
        self._by_gram = places * (features + outputs) < features * outputs

    @staticmethod
    def together(several: "Sequence[OuterProducts]") -> "OuterProducts":
        """The sums of gradients by the same weight, as those of one call at more places."""
        return OuterProducts(
            torch.cat([each._inputs for each in several], dim=1),
            torch.cat([each._back for each in several], dim=1),
            several[0]._kept,
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

    def add_to(self, total: Tensor, factors: Tensor) -> None:
        """See `Gradients`."""
        if self._whole is not None:
            total.add_(self.weighted_sum(factors))
            return
        scaled = self._back * factors[:, None, None]
        total.addmm_(scaled.flatten(0, 1).T, self._inputs.flatten(0, 1))

    def formed(self) -> Tensor:
        """See `Gradients`."""
        if self._whole is None:
            shape = (len(self._back), self._back.shape[2], self._inputs.shape[2])
            self._whole = self._kept.matrices(shape, self._back)
            torch.bmm(self._back.mT, self._inputs, out=self._whole)
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

    def norms(self) -> Tensor:
        """See `Gradients`. Rows that an example reads more than once are added up first."""
        if self._ids.device.type != "cpu":
            return row_norms(self._added_up().reshape(len(self._ids), -1))
        squares = row_norms(self._back).square_()  # [B, T]
        examples, places, rows = _read_again(self._ids)
        if not len(examples):
            return squares.sum(1).sqrt_()
        squares[examples, places] = 0.0
        count, width = int(rows[-1]) + 1, self._back.shape[2]
        added = self._back.new_zeros(count, width)
        added.index_add_(0, rows, self._back[examples, places])
        theirs = torch.empty(count, dtype=torch.int64).index_copy_(0, rows, examples)
        return squares.sum(1).index_add_(0, theirs, row_norms(added).square_()).sqrt_()

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `Gradients`."""
        total = torch.zeros_like(self._table)
        self.add_to(total, factors)
        return total

    def add_to(self, total: Tensor, factors: Tensor) -> None:
        """See `Gradients`."""
        scaled = self._back * factors[:, None, None]
        total.index_add_(0, self._ids.reshape(-1), scaled.reshape(-1, scaled.shape[2]))

    def _added_up(self) -> Tensor:
        """[B T, d]: the rows that each example reads, once each, and zeros; waits for no device."""
        examples, places = self._ids.shape
        ordered, order = self._ids.sort(dim=1)
        number = torch.zeros_like(self._ids)
        torch.cumsum(ordered[:, 1:] != ordered[:, :-1], dim=1, out=number[:, 1:])
        number += torch.arange(0, examples * places, places, device=number.device)[:, None]
        place = torch.empty_like(number).scatter_(1, order, number).flatten()
        rows = self._back.new_zeros(examples * places, self._back.shape[2])
        return rows.index_add_(0, place, self._back.reshape(rows.shape))

    def formed(self) -> Tensor:
        """See `Gradients`."""
        examples = len(self._ids)
        size, width = self._table.shape
        dense = self._back.new_zeros(examples * size, width)
        first = torch.arange(0, examples * size, size, device=self._ids.device)
        at = (self._ids + first[:, None]).view(-1)
        return dense.index_add_(0, at, self._back.reshape(-1, width)).view(examples, size, width)


def _read_again(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which ids [B, T] an example has more than once: their examples, places and row's number."""
    bits = max(1, (ids.shape[1] - 1).bit_length())
    packed = (ids << bits) + torch.arange(ids.shape[1])
    ordered = torch.from_numpy(np.sort(packed.numpy(), axis=1))  # ten times as fast as PyTorch's
    same = (ordered[:, 1:] >> bits) == (ordered[:, :-1] >> bits)
    again = torch.zeros_like(ids, dtype=torch.bool)
    again[:, 1:] = same
    first = torch.zeros_like(again)
    first[:, :-1] = same
    first &= ~again
    again |= first
    examples, at = again.nonzero(as_tuple=True)
    rows = first[examples, at].long().cumsum(0) - 1
    return examples, ordered[examples, at] & ((1 << bits) - 1), rows


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
