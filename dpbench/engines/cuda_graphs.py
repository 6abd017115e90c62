"""Steps on a GPU as CUDA graphs: one launch, however many kernels they are made of.

A step of a small model takes a GPU as long as its launches take the processor. A graph is launched
as a whole, but has fixed shapes, and Poisson batches have none. So a batch is padded with examples
without a label, whose loss and gradients are 0, and each padded size that occurs is captured once.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dpbench.engines.backward import NO_LABEL

PADDING = 32  # padded sizes are multiples of it
WARM_UP_STEPS = 3  # before a capture: libraries set themselves up, which cannot be captured

_log = logging.getLogger(__name__)


@runtime_checkable
class Capturable(Protocol):
    """An engine, or a stack, whose step does not wait for the device."""

    @property
    def state(self) -> Sequence[Tensor]:
        """All that a step changes, in place, but the state of its noise."""
        ...

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`; an example without a label has neither loss nor gradient."""
        ...


class Graphed:
    """The steps of an engine on a GPU, captured; otherwise they are as they were.

    Where a capture fails, that is said once, and steps are launched kernel by kernel.

    Args:
        engine: What takes the steps.
        noise: All generators that it draws from.
    """

    def __init__(self, engine: Capturable, *, noise: Sequence[torch.Generator]) -> None:
        self._engine, self._noise = engine, noise
        self._graphs: dict[int, _Graph] = {}
        self._pool: Any = None  # of memory: graphs of one engine never overlap
        self._fails = False

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        size = padded_size(len(labels))
        if not self._fails and size not in self._graphs:
            self._capture(Padded(size, images, labels))
        if self._fails:
            return self._engine.step(images, labels)
        return self._graphs[size].step(images, labels)

    def _capture(self, batch: "Padded") -> None:
        """Captures a step on the batch; warming up and capturing leave the engine as it was."""
        kept = [each.clone() for each in self._engine.state]
        states = [noise.get_state() for noise in self._noise]
        try:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph = _Graph(self._engine, batch, self._noise, self._pool)
        except RuntimeError as error:
            self._fails = True
            _log.warning("Steps are launched kernel by kernel: no CUDA graph (%s)", error)
        else:
            self._graphs[len(batch.labels)] = graph
        for each, before in zip(self._engine.state, kept, strict=True):
            each.copy_(before)
        for noise, state in zip(self._noise, states, strict=True):
            noise.set_state(state)


class Padded:
    """Memory for a batch of up to so many examples.

    Args:
        size: Examples that there is room for.
        images: As the batches': their shape, type and device.
        labels: As the batches'.

    Attributes:
        images: [size, ...].
        labels: [size]; NO_LABEL where there is no example.
    """

    def __init__(self, size: int, images: Tensor, labels: Tensor) -> None:
        self.images = images.new_zeros(size, *images.shape[1:])
        self.labels = labels.new_full((size,), NO_LABEL)

    def fill(self, images: Tensor, labels: Tensor) -> None:
        """Holds this batch instead of the last one."""
        count = len(labels)
        self.images[:count].copy_(images)
        self.labels[:count].copy_(labels)
        self.labels[count:].fill_(NO_LABEL)


def padded_size(count: int) -> int:
    """The size to which a batch of so many examples, maybe none, is padded."""
    return PADDING * max(1, math.ceil(count / PADDING))


class _Graph:
    """One captured step."""

    def __init__(
        self,
        engine: Capturable,
        batch: Padded,
        noise: Sequence[torch.Generator],
        pool: Any,
    ) -> None:
        self._batch = batch
        self._graph = torch.cuda.CUDAGraph()
        for each in noise:
            self._graph.register_generator_state(each)
        device = batch.images.device
        with torch.cuda.device(device):  # graphs are captured on the current one
            current, beside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
            beside.wait_stream(current)
            with torch.cuda.stream(beside):
                for _ in range(WARM_UP_STEPS):
                    engine.step(batch.images, batch.labels)
            current.wait_stream(beside)
            with torch.cuda.graph(self._graph, pool=pool):
                self._total = engine.step(batch.images, batch.labels)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        self._batch.fill(images, labels)
        self._graph.replay()
        return self._total.clone()
