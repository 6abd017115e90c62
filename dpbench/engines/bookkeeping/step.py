"""DP-SGD in one backward pass for models of Conv2d and Linear layers.

Bu, Wang, Zha and Karypis, "Differentially Private Optimization on Large Model at Small Cost", ICML
2023: one backward pass to the layers' outputs, the examples' squared gradient norms from inputs and
output gradients, then one weighted sum.
"""

import torch
from torch import Tensor, nn

from dpbench import clipping
from dpbench.engines import backward
from dpbench.engines.bookkeeping import layers
from dpbench.engines.protocol import physical_batches
from dpbench.engines.update import Update, add_up, noisy_mean, row_norms
from dpbench.trial import Trial

CHUNK = 144  # examples at a time on a CPU: fewer leave convolutions idle, more leave the cache


class Bookkeeping:
    """No weight gradient is computed by autograd, and no example's dense gradient at all.

    Args:
        trial: The privacy parameters, clipping rule and optimizer.
        model: Conv2d and Linear layers, each used once and trained, with layers between that have
            no parameters and do not mix examples; trained in place.
        noise: Source of the noise, on the model's device.
        physical_batch_size: Most examples in one pass.
    """

    def __init__(
        self,
        trial: Trial,
        model: nn.Module,
        *,
        noise: torch.Generator,
        physical_batch_size: int | None,
    ) -> None:
        self._layers = backward.with_parameters(model)
        convolutions = [layer for layer in self._layers if isinstance(layer, nn.Conv2d)]
        self._largest = max(convolutions, key=lambda layer: layer.weight.numel(), default=None)
        self._trial = trial
        self._noise = noise
        self._passes = backward.Passes(model)
        self._parameters = list(model.parameters())
        assert trial.max_grad_norm is not None
        # a tensor is divided by the norms in one operation, a number in two
        self._bound = self._parameters[0].new_tensor(trial.max_grad_norm)
        self._factors_of = clipping.spec(trial.clipping).factors
        self._update = Update(self._parameters, trial)
        on_cpu = self._parameters[0].device.type == "cpu"
        sizes = [size for size in (physical_batch_size, CHUNK if on_cpu else None) if size]
        self._physical_batch_size = min(sizes, default=None)

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return self._update.state

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total, sums = images.new_zeros(()), list[Tensor]()
        for part in physical_batches(images, labels, self._physical_batch_size):
            loss, clipped = self._clipped_sums(*part[:2])
            total += loss
            sums = add_up(sums, clipped)
        self._update.step(noisy_mean(self._parameters, sums, self._trial, self._noise))
        return total

    def _clipped_sums(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The sum of the examples' losses, and of their clipped gradients by each parameter."""
        if not len(labels):
            return images.new_zeros(()), [torch.zeros_like(each) for each in self._parameters]
        loss, found = self._passes(images, labels)
        with torch.no_grad():
            parts = {
                layer: layers.part(layer, *ends)
                for layer, ends in found.items()
                if layer is not self._largest
            }
            norms = [part.norms() for part in parts.values()] or [images.new_zeros(len(labels))]
            together: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # [B]
            added: dict[nn.Module, list[Tensor]] = {}
            if self._largest is None:
                factors = self._factors(together)
            else:
                factors, added[self._largest] = self._clip(
                    self._largest, *found[self._largest], together
                )
            for layer, part in parts.items():
                added[layer] = part.weighted_sums(factors)
        return loss, [each for layer in self._layers for each in added[layer]]

    def _clip(
        self, layer: nn.Conv2d, inputs: Tensor, back: Tensor, others: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Every example's factor [B], and this layer's weighted sums.

        Its examples' gradients are formed, measured, weighted and forgotten while in the cache.

        Args:
            layer: The last whose part of the norms is not known.
            inputs: [B, I, H, W].
            back: [B, O, h, w].
            others: [B]: the norms of the other layers' gradients.
        """
        bias = back.sum((2, 3))  # [B, O]
        if layer.bias is not None:
            others = torch.hypot(others, row_norms(bias))
        total = back.new_zeros(layer.weight.numel())  # [O k k I]
        factors = []
        done = 0
        for gradients in layers.conv_gradients(layer, inputs, back):
            some = others[done : (done := done + len(gradients))]
            factors.append(self._factors(torch.hypot(row_norms(gradients), some)))
            total.addmv_(gradients.T, factors[-1])
        together = torch.cat(factors)
        return together, layers.as_parameters(layer, total, together @ bias)

    def _factors(self, norms: Tensor) -> Tensor:
        """[B]: what gradients of these norms [B] are multiplied by."""
        return self._factors_of(norms, self._bound)
