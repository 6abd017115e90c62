"""Plain SGD, the baseline of every overhead."""

import torch.nn.functional as F
from torch import Tensor, nn

from dpbench.engines.protocol import changed_in_place, physical_batches, sgd
from dpbench.trial import Trial

CHUNK = 192  # examples at a time on a CPU: more leave the cache, or fault their memory in anew


class NonPrivate:
    """The step without clipping and noise; batches and divisor are the private ones."""

    def __init__(self, trial: Trial, model: nn.Module, *, physical_batch_size: int | None) -> None:
        self._model = model
        self._optimizer = sgd(model, trial)
        self._batch_size = trial.batch_size
        on_cpu = next(model.parameters()).device.type == "cpu"
        sizes = [size for size in (physical_batch_size, CHUNK if on_cpu else None) if size]
        self._physical_batch_size = min(sizes, default=None)

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return changed_in_place(self._optimizer)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        self._optimizer.zero_grad(set_to_none=True)
        total = images.new_zeros(())
        for part_images, part_labels, _ in physical_batches(
            images, labels, self._physical_batch_size
        ):
            loss = F.cross_entropy(self._model(part_images), part_labels, reduction="sum")
            (loss / self._batch_size).backward()
            total += loss.detach()
        self._optimizer.step()
        return total
