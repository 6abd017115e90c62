"""What an engine is, and what all of them share."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor


class Engine(Protocol):
    """One way to compute a training step of a trial on its model."""

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Takes one optimizer step on a Poisson batch, which may be empty.

        The gradient is the sum over the batch, clipped and noised where the engine is private,
        divided by the trial's batch_size, which is the expected size and not that of this batch.

        Args:
            images: Normalised, float32 [B, 1, 28, 28].
            labels: Classes, int64 [B].

        Returns:
            The sum of the examples' cross entropy before the step, float32 [], on their device.
        """
        ...


def physical_batches(
    images: Tensor, labels: Tensor, physical_batch_size: int | None
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Even parts of a batch, none larger than physical_batch_size, and whether more follow.

    An empty batch is one empty part.
    """
    parts = max(1, math.ceil(len(labels) / (physical_batch_size or math.inf)))
    for index, part in enumerate(zip(images.chunk(parts), labels.chunk(parts), strict=True)):
        yield *part, index < parts - 1


@contextmanager
def no_hook_warning() -> Iterator[None]:
    """Leaves out PyTorch's warnings that Opacus' hooks set off.

    They are that images need no gradient, and that ids are of no type for automatic casts.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        warnings.filterwarnings("ignore", message="In CPU autocast, but the target dtype")
        yield
