"""The tutorial CNN's step as one compiled pass per example (`fused_kernel`), on one CPU thread."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpbench.engines import fused_kernel as kernel
from dpbench.engines.protocol import apply_noisy_sum, sgd
from dpbench.trial import Trial

# Shapes of the parameters of `models.tutorial_cnn`, in their order.
SHAPES = [(16, 1, 8, 8), (16,), (32, 16, 4, 4), (32,), (32, 512), (32,), (10, 32), (10,)]


def supports(model: nn.Module) -> bool:
    """Whether the model is the tutorial CNN, on a CPU: its parameters have its shapes."""
    parameters = list(model.parameters())
    return [tuple(p.shape) for p in parameters] == SHAPES and parameters[0].device.type == "cpu"


class Fused:
    """Forward, backward, norm and clipped sum of one example at a time, all in cache.

    Args:
        trial: Learning rate and momentum, and where it is private, the privacy parameters.
        model: `models.tutorial_cnn` on a CPU; trained in place.
        noise: Source of the noise.
    """

    def __init__(self, trial: Trial, model: nn.Module, *, noise: torch.Generator) -> None:
        assert supports(model)
        self._trial = trial
        self._noise = noise
        self._optimizer = sgd(model, trial)
        self._parameters = list(model.parameters())
        self._weights = kernel.Weights(
            *map(_zeros, (1024, 16, 8192, 8192, 32, 16_384, 32, 320, 16))
        )
        self._activations = kernel.Activations(
            *map(_zeros, (34 * 34, 14 * 14 * 16, 13 * 13 * 16, 5 * 5 * 32, 512, 32, 16))
        )
        self._gradients = kernel.Gradients(
            *map(_zeros, (1024, 16, 14 * 14 * 16, 13 * 13 * 16, 8192, 32, 5 * 5 * 32, 512, 32, 16))
        )
        self._sums = kernel.Sums(*map(_zeros, (1024, 16, 8192, 32, 16_384, 32, 320, 16)))
        self._to_weights, self._from_sums = _views(self._weights, self._sums)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        for parameter, targets in zip(self._parameters, self._to_weights, strict=True):
            for target in targets:
                target.copy_(parameter.detach().view(target.shape))
        for each in self._sums:
            each.fill(0)
        pixels = images.reshape(len(labels), 784).numpy()
        work = (self._weights, self._activations, self._gradients, self._sums)
        if self._trial.max_grad_norm is None:
            losses = kernel.plain_sum(pixels, labels.numpy(), *work)
        else:
            losses = kernel.clipped_sum(pixels, labels.numpy(), self._trial.max_grad_norm, *work)
        apply_noisy_sum(self._parameters, self._from_sums, self._trial, self._noise)
        self._optimizer.step()
        return torch.tensor(losses, dtype=images.dtype)


def _zeros(size: int) -> Any:
    return np.zeros(size, np.float32)


def _views(weights: kernel.Weights, sums: kernel.Sums) -> tuple[list[list[Tensor]], list[Tensor]]:
    """(for each parameter the kernel's copies of it, the sums), as views of the parameters' shapes.

    The kernel's layouts have channels innermost; a view of theirs with the axes in PyTorch's order
    makes a copy to or from them one call.
    """

    def views(of: Any) -> list[Tensor]:
        w1, b1, w2, b2, w3, b3, w4, b4 = (
            torch.from_numpy(getattr(of, name)) for name in kernel.Sums._fields
        )
        return [
            w1.view(8, 8, 1, 16).permute(3, 2, 0, 1),
            b1,
            w2.view(4, 4, 16, 32).permute(3, 2, 0, 1),
            b2,
            w3.view(32, 4, 4, 32).permute(0, 3, 1, 2),  # [out, channel, row, column]
            b3,
            w4.view(10, 32),
            b4[:10],
        ]

    to_weights = [[view] for view in views(weights)]
    to_weights[2].append(torch.from_numpy(weights.w2t).view(32, 4, 4, 16).permute(0, 3, 1, 2))
    return to_weights, views(sums)
