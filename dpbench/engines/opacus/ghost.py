"""Opacus with ghost clipping: norms first, then a second backward pass over reweighted losses."""

import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from dpbench import losses, optimizers
from dpbench.engines.protocol import no_hook_warning, physical_batches
from dpbench.trial import Trial


class Ghost:
    """Per-example gradient norms without keeping the gradients (Li et al. 2022).

    Args:
        trial: The privacy parameters and the optimizer.
        model: Trained in place.
        noise: Source of the noise, on the model's device.
        physical_batch_size: Most examples in one pass, by virtual steps.
    """

    def __init__(
        self,
        trial: Trial,
        model: nn.Module,
        *,
        noise: torch.Generator,
        physical_batch_size: int | None,
    ) -> None:
        self._model = GradSampleModuleFastGradientClipping(
            model, max_grad_norm=trial.max_grad_norm, loss_reduction="mean"
        )
        self._optimizer = DPOptimizerFastGradientClipping(
            optimizers.spec(trial.optimizer).build(model.parameters(), trial),
            noise_multiplier=trial.noise_multiplier,
            max_grad_norm=trial.max_grad_norm,
            expected_batch_size=trial.batch_size,
            loss_reduction="mean",
            generator=noise,
        )
        self._criterion = DPLossFastGradientClipping(
            self._model, self._optimizer, _Criterion(losses.of(trial)), "mean"
        )
        self._physical_batch_size = physical_batch_size

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total = torch.zeros((), device=images.device)  # images may be ids
        for part_images, part_labels, more in physical_batches(
            images, labels, self._physical_batch_size
        ):
            self._optimizer.zero_grad(set_to_none=True)
            if len(part_labels):
                loss = self._criterion(self._model(part_images), part_labels)
                with no_hook_warning():
                    loss.backward()  # p.grad is the sum of the clipped gradients
                total += loss.detach() * len(part_labels)
            else:
                for parameter in self._optimizer.params:
                    parameter.grad = torch.zeros_like(parameter)
            self._optimizer.signal_skip_step(do_skip=more)
            self._optimizer.step()
        return total


class _Criterion:
    """A loss as Opacus takes it: it has the losses of examples averaged by none but itself.

    Args:
        loss: One number an example.
    """

    def __init__(self, loss: losses.Loss) -> None:
        self.reduction = "mean"  # which Opacus sets to "none"
        self._loss = loss

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self._loss(output, target)
