"""The plain step, by autograd."""

import torch
from torch import Tensor, nn

from dpbench import losses
from dpbench.engines.protocol import physical_batches
from dpbench.engines.update import Update, add_up
from dpbench.trial import Trial

CHUNK = 192  # examples at a time on a CPU: more leave the cache, or fault their memory in anew


class NonPrivate:
    """The step without clipping and noise; batches and divisor are those of private engines."""

    def __init__(self, trial: Trial, model: nn.Module, *, physical_batch_size: int | None) -> None:
        self._model, self._loss = model, losses.total(trial)
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._update = Update(self._parameters, trial)
        self._batch_size = trial.batch_size
        on_cpu = next(model.parameters()).device.type == "cpu"
        sizes = [size for size in (physical_batch_size, CHUNK if on_cpu else None) if size]
        self._physical_batch_size = min(sizes, default=None)

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return self._update.state

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total, sums = self._parameters[0].new_zeros(()), list[Tensor]()
        for part_images, part_labels, _ in physical_batches(
            images, labels, self._physical_batch_size
        ):
            loss = self._loss(self._model(part_images), part_labels)
            gradients = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
            total += loss.detach()
            sums = add_up(sums, list(gradients))
        self._update.step(torch._foreach_div(sums, self._batch_size))
        return total
