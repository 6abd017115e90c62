"""Plain SGD, the baseline of every overhead."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench.engines import backward
from dpbench.engines.protocol import physical_batches
from dpbench.engines.sgd import Sgd, add_up
from dpbench.trial import Trial

CHUNK = 192  # examples at a time on a CPU: more leave the cache, or fault their memory in anew


class NonPrivate:
    """The step without clipping and noise; batches and divisor are the private ones.

    So are, through a chain of known layers, the passes: an overhead is the mechanism's alone.
    """

    def __init__(self, trial: Trial, model: nn.Module, *, physical_batch_size: int | None) -> None:
        self._model = model
        layers = backward.chain(model)
        self._by_hand = None if layers is None else backward.ByHand(layers)
        self._layers = backward.with_parameters(model)
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._sgd = Sgd(self._parameters, trial)
        self._batch_size = trial.batch_size
        on_cpu = next(model.parameters()).device.type == "cpu"
        sizes = [size for size in (physical_batch_size, CHUNK if on_cpu else None) if size]
        self._physical_batch_size = min(sizes, default=None)

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return self._sgd.state

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total, sums = images.new_zeros(()), list[Tensor]()
        for part in physical_batches(images, labels, self._physical_batch_size):
            loss, gradients = self._sums(*part[:2])
            total += loss
            sums = add_up(sums, gradients)
        self._sgd.step(list(torch._foreach_div(sums, self._batch_size)))
        return total

    def _sums(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The sum of the examples' losses, and of their gradients by each parameter."""
        if self._by_hand is None:
            loss = F.cross_entropy(self._model(images), labels, reduction="sum")
            sums = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
            return loss.detach(), list(sums)
        loss, found = self._by_hand(images, labels)
        gradients = (backward.weight_gradients(layer, *found[layer]) for layer in self._layers)
        return loss, [each for both in gradients for each in both]
