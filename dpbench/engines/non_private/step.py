"""The plain step, by autograd."""

import torch
from torch import Tensor, nn

from dpbench import losses
from dpbench.engines.chunks import examples_at_a_time
from dpbench.engines.protocol import physical_batches
from dpbench.engines.update import Update, add_up
from dpbench.trial import Trial

HELD_BYTES = 6 * 2**20  # of activations at a time, on a CPU


class NonPrivate:
    """The step without clipping and noise; batches and divisor are those of private engines."""

    def __init__(self, trial: Trial, model: nn.Module, *, physical_batch_size: int | None) -> None:
        self._model, self._loss = model, losses.total(trial)
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._update = Update(self._parameters, trial)
        self._batch_size = trial.batch_size
        self._physical_batch_size = physical_batch_size
        self._chooses = next(model.parameters()).device.type == "cpu"  # in the first batch

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return self._update.state

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total, sums = self._parameters[0].new_zeros(()), list[Tensor]()
        if self._chooses and len(labels):
            self._chooses = False
            most = examples_at_a_time(self._model, images, held_bytes=HELD_BYTES)
            self._physical_batch_size = min(most, self._physical_batch_size or most)
        for part_images, part_labels, _ in physical_batches(
            images, labels, self._physical_batch_size
        ):
            loss = self._loss(self._model(part_images), part_labels)
            gradients = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
            total += loss.detach()
            sums = add_up(sums, list(gradients))
        self._update.step(torch._foreach_div(sums, self._batch_size))
        return total
