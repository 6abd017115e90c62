"""Opacus with per-example gradients: its hooks, functorch and expanded-weights modes."""

import torch
from opacus.grad_sample.utils import wrap_model
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from dpbench import losses, optimizers
from dpbench.engines.protocol import no_hook_warning, physical_batches
from dpbench.trial import Trial


class GradSample:
    """Every example's whole gradient is computed and kept, then clipped, summed and noised.

    Args:
        trial: The privacy parameters and the optimizer.
        model: Trained in place.
        mode: Opacus' `grad_sample_mode`: `hooks`, `functorch` or `ew`.
        noise: Source of the noise, on the model's device.
        physical_batch_size: Most examples whose gradients are kept at once, by virtual steps.
    """

    def __init__(
        self,
        trial: Trial,
        model: nn.Module,
        *,
        mode: str,
        noise: torch.Generator,
        physical_batch_size: int | None,
    ) -> None:
        self._end: Tensor | None = None  # of the backward pass, where that is known
        last_reached = None if mode == "ew" else _last_reached(model)
        # of the sum of the losses: of their mean, Opacus would multiply each gradient by the batch
        self._model = wrap_model(model, mode, loss_reduction="sum")
        if last_reached is not None:  # wrapped by now: functorch mode copies layers, hooks and all
            last_reached.register_forward_hook(self._keep_end)
        self._optimizer = DPOptimizer(
            optimizers.spec(trial.optimizer).build(model.parameters(), trial),
            noise_multiplier=trial.noise_multiplier,
            max_grad_norm=trial.max_grad_norm,
            expected_batch_size=trial.batch_size,
            loss_reduction="mean",  # divides the noisy sum by expected_batch_size
            generator=noise,
        )
        self._loss = losses.total(trial)
        self._physical_batch_size = physical_batch_size

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total = torch.zeros((), device=images.device)  # images may be ids
        for part_images, part_labels, more in physical_batches(
            images, labels, self._physical_batch_size
        ):
            self._optimizer.zero_grad(set_to_none=True)
            if len(part_labels):
                loss = self._loss(self._model(part_images), part_labels)
                self._backward(loss)
                total += loss.detach()
            else:  # functorch and ew refuse an empty batch; no example has no gradient
                for parameter in self._optimizer.params:
                    parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
            self._optimizer.signal_skip_step(do_skip=more)
            self._optimizer.step()
        return total

    def _keep_end(self, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        """A forward hook."""
        if output.requires_grad:
            self._end = output

    def _backward(self, loss: Tensor) -> None:
        """Sets off all of Opacus' hooks.

        A pass to the outputs of the layer that is reached last does, and spares the gradients of
        the batch by the weights, which Opacus has no use for.
        """
        with no_hook_warning():
            if self._end is None:
                loss.backward()
            else:
                torch.autograd.grad(loss, self._end)
        self._end = None


def _last_reached(model: nn.Module) -> nn.Module | None:
    """The layer with parameters that a backward pass reaches last; None where it is not known."""
    if type(model) is not nn.Sequential or len(set(model)) < len(model):
        return None
    for layer in model:
        if next(layer.children(), None) is not None:
            return None
        if any(each.requires_grad for each in layer.parameters()):
            return layer
    return None
