"""Gradients of single examples by the weights of convolutions, of any kind.

They are formed: with kernels as small as is usual that is cheaper than their patches' Gram
matrices. What each output sees is copied into the rows of a matrix, strip by strip of examples, so
that it stays in the cache, and multiplied with the gradients by the outputs.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench.engines.update import row_norms

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Region = tuple[Any, ...]  # an index

# On a CPU
STRIP_BYTES = 2**19  # of patches at a time: some of the second-level cache is the code's
LINE = 16  # numbers that are copied at once

_PADDING = {mode: mode for mode in ("reflect", "replicate", "circular")} | {"zeros": "constant"}


def padded(layer: Convolution, inputs: Tensor) -> Tensor:
    """What the kernels of a convolution see: its inputs with their padding."""
    amounts = layer._reversed_padding_repeated_twice
    if not any(amounts):
        return inputs
    return F.pad(inputs, amounts, mode=_PADDING[layer.padding_mode])


class Kernels:
    """A `Gradients` by a convolution's weight.

    Args:
        layer: The convolution.
        inputs: [B, I, *size].
        back: The gradients by its outputs, [B, O, *places].
    """

    def __init__(self, layer: Convolution | Transposed, inputs: Tensor, back: Tensor) -> None:
        self._shape = layer.weight.shape
        self._groups = layer.groups
        if isinstance(layer, Transposed):  # as a convolution that maps `back` to `inputs`
            assert not isinstance(layer.padding, str)
            amounts = [each for side in reversed(layer.padding) for each in (side, side)]
            inputs, back = F.pad(back, amounts) if any(amounts) else back, inputs
        elif not _by_rows(layer):
            inputs = padded(layer, inputs)
        self._back = back
        self._row_step = layer.dilation[0] if _by_rows(layer) else 0
        # (destination in a strip, what is copied there), all of [B, ...]
        self._copies: list[tuple[Region, Tensor]]
        if self._row_step:
            self._strip_shape, self._copies = _along_width(layer, inputs, *back.shape[2:])
        else:
            patches = _patches(layer, inputs, back.shape[2:])
            self._strip_shape, self._copies = patches.shape[1:], [((...,), patches)]
        strip_bytes = math.prod(self._strip_shape) * back.element_size()
        on_cpu = back.device.type == "cpu"
        self._examples = back.shape[0]  # len() of a tensor takes a microsecond
        self._strip = _even(self._examples, strip_bytes) if on_cpu else self._examples
        self._rows = self._shape[2] if self._row_step else 1  # products that make up a gradient
        self._whole: Tensor | None = None

    @property
    def size(self) -> int:
        """Numbers in an example's gradient."""
        return self._shape.numel()

    def norms(self) -> Tensor:
        """See `Gradients`; keeps what it forms."""
        return _norms(self._kept())

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `Gradients`."""
        each_row = factors.expand(self._rows, 1, self._examples)
        return self._as_weight(torch.bmm(each_row, self._kept()))

    def add_to(self, total: Tensor, factors: Tensor) -> None:
        """See `Gradients`."""
        total.add_(self.weighted_sum(factors))

    def formed(self) -> Tensor:
        """See `Gradients`."""
        return self._as_weights(self._kept())

    def clip(self, others: Tensor, factors_of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Every example's factor [B], and the weighted sum.

        Examples' gradients are formed, measured, weighted and forgotten while in the cache.

        Args:
            others: [B]: the norms of the gradients by all other parameters.
            factors_of: Norms of whole gradients -> factors.
        """
        memory = self._matrices(self._strip)
        total = memory.new_zeros(self._rows, memory.shape[2])
        factors: list[Tensor] = []
        done = 0
        for count in self._strips(memory):
            matrices = memory if count == self._strip else memory[:, :count]
            factors.append(
                factors_of(torch.hypot(_norms(matrices), others[done : (done := done + count)]))
            )
            for row in range(self._rows):
                total[row].addmv_(matrices[row].T, factors[-1])
        return torch.cat(factors), self._as_weight(total)

    @property
    def _kernel(self) -> torch.Size:
        return self._shape[2:]

    @property
    def _matrix_shape(self) -> tuple[int, ...]:
        """Of an example's gradient in a matrix: [G, O / G, *kernel, I / G] or a kernel row's."""
        kernel = self._kernel[1:] if self._row_step else self._kernel
        return (self._groups, self._shape[0] // self._groups, *kernel, self._shape[1])

    def _matrices(self, examples: int) -> Tensor:
        """Memory for so many gradients, [rows, b, N], each row's of a shape of its own."""
        return self._back.new_empty(self._rows, examples, math.prod(self._matrix_shape))

    def _kept(self) -> Tensor:
        if self._whole is None:
            self._whole = self._matrices(self._examples)
            for _ in self._strips(self._whole):
                pass
        return self._whole

    def _strips(self, memory: Tensor) -> Iterator[int]:
        """Forms the gradients of some examples after the others, and tells of how many.

        Args:
            memory: For all of them, or for a strip's, which the next then overwrites.
        """
        groups, size = self._groups, self._strip
        places = math.prod(self._back.shape[2:])
        outputs, *kernel = self._matrix_shape[1:]
        weights = math.prod(kernel)
        parts = math.ceil(self._examples / size)
        # where the kernels see padding it stays 0
        strip = self._back.new_zeros(size, *self._strip_shape)
        copies = [(strip[region], source.chunk(parts)) for region, source in self._copies]
        seen = self._seen(strip, places, weights)
        back = self._back.reshape(self._examples * groups, outputs, places)
        products = memory.view(self._rows, memory.shape[1] * groups, outputs, weights)
        targets = products.split(size * groups, dim=1)
        count = size
        for number, some in enumerate(back.split(size * groups)):
            target = targets[number] if number < len(targets) else targets[0]
            if number == parts - 1 and (count := self._examples - number * size) < size:
                copies = [(each[:count], sources) for each, sources in copies]
                seen = [each[: count * groups] for each in seen]
                target = target[:, : count * groups]
            for destination, sources in copies:
                destination.copy_(sources[number])
            for patches, matrix in zip(seen, target.unbind(), strict=True):
                torch.bmm(some, patches, out=matrix)
            yield count

    def _seen(self, strip: Tensor, places: int, weights: int) -> list[Tensor]:
        """What is multiplied with the gradients by the outputs, [b G, places, weights] each."""
        size = strip.shape[0]
        if not self._row_step:
            return [strip.view(size * self._groups, places, weights)]
        example, down = strip.stride()[:2]
        shape, stride = (size, places, weights), (example, weights, 1)
        return [
            strip.as_strided(shape, stride, row * self._row_step * down)
            for row in range(self._rows)
        ]

    def _as_weight(self, sums: Tensor) -> Tensor:
        """A matrix for each row of the kernel, in the weight's shape."""
        return self._as_weights(sums.view(self._rows, 1, -1))[0]

    def _as_weights(self, matrices: Tensor) -> Tensor:
        """[rows, b, N] -> [b, O, I, *kernel]."""
        groups, outputs, *kernel, channels = self._matrix_shape
        apart = matrices.view(self._rows, -1, groups * outputs, *kernel, channels)
        by_rows = apart.movedim(0, 2) if self._row_step else apart[0]  # [b, O, *kernel, I]
        return by_rows.movedim(-1, 2)


def _norms(matrices: Tensor) -> Tensor:
    """[rows, b, N] -> [b]; both axes at once take six times as long."""
    by_row = row_norms(matrices)
    norms: Tensor = by_row[0] if by_row.shape[0] == 1 else torch.linalg.vector_norm(by_row, dim=0)
    return norms


def _by_rows(layer: Convolution | Transposed) -> bool:
    """Whether a product for each row of the kernel spares copies, and is possible.

    What is copied along the width only is what the rows of the kernel see, one below the other.
    """
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and layer.stride[0] == 1
        and layer.padding_mode == "zeros"
        and layer.kernel_size[0] > 1
        and layer.kernel_size[1] * layer.in_channels >= LINE
    )


def _along_width(
    layer: Convolution | Transposed, inputs: Tensor, height: int, width: int
) -> tuple[torch.Size, list[tuple[Region, Tensor]]]:
    """What the kernel's rows see: the shape [H', w, k, I] of it, and where which inputs are copied.

    Columns that see no padding by the same taps are copied at once: what an output's taps see lies
    side by side where they are not dilated, and is one run.

    Args:
        layer: One that goes by rows.
        inputs: [B, I, H, W], without padding.
        height: h, of the outputs.
        width: w, of the outputs.
    """
    left, _, above, _ = layer._reversed_padding_repeated_twice
    (_, stride), (down, along), (tall, wide) = layer.stride, layer.dilation, layer.kernel_size
    rows = height + down * (tall - 1)
    shape = torch.Size((rows, width, wide, inputs.shape[1]))
    seen = inputs[:, :, : rows - above].permute(0, 2, 3, 1)  # [B, H, W, I]
    example, row, column, channel = seen.stride()

    copies: list[tuple[Region, Tensor]] = []
    columns = _columns(width, inputs.shape[3], wide=wide, left=left, stride=stride, along=along)
    for first, count, taps in columns:
        start = first * stride - left + taps.start * along
        runs = seen[:, :, start:].as_strided(
            (*seen.shape[:2], count, len(taps), seen.shape[3]),
            (example, row, stride * column, along * column, channel),
        )
        region = (
            ...,
            slice(above, above + seen.shape[1]),
            slice(first, first + count),
            slice(taps.start, taps.stop),
            slice(None),
        )
        copies.append((region, runs))
    return shape, copies


@cache
def _columns(
    width: int, seen: int, *, wide: int, left: int, stride: int, along: int
) -> list[tuple[int, int, range]]:
    """The outputs' columns whose same taps see no padding: the first, how many, and the taps."""

    def inside(at: int) -> range:
        first = at * stride - left  # the column that the first tap sees
        return range(max(0, math.ceil(-first / along)), min(wide, (seen - 1 - first) // along + 1))

    groups = ((taps, list(at)) for taps, at in itertools.groupby(range(width), inside) if taps)
    return [(at[0], len(at), taps) for taps, at in groups]


def _patches(layer: Convolution | Transposed, seen: Tensor, places: Sequence[int]) -> Tensor:
    """A view of what each output sees, channels innermost: [B, G, *places, *kernel, I / G].

    A copy of it copies runs of numbers, of the innermost axes that lie side by side.
    """
    examples = len(seen)
    stride, dilation, kernel = layer.stride, layer.dilation, layer.kernel_size
    grouped: Tensor = seen.view(examples, layer.groups, -1, *seen.shape[2:])
    steps = grouped.stride()[3:]
    return grouped.as_strided(
        (examples, layer.groups, *places, *kernel, grouped.shape[2]),
        (
            *grouped.stride()[:2],
            *(by * step for by, step in zip(stride, steps, strict=True)),
            *(by * step for by, step in zip(dilation, steps, strict=True)),
            grouped.stride(2),
        ),
    )


def _even(examples: int, example_bytes: int) -> int:
    """Of so many examples those whose patches stay in the cache together, in even strips."""
    strips = math.ceil(examples / max(1, STRIP_BYTES // max(1, example_bytes)))
    return math.ceil(examples / strips)
