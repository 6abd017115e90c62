"""DP-SGD in one backward pass.

Bu, Wang, Zha and Karypis, "Differentially Private Optimization on Large Model at Small Cost", ICML
2023: one backward pass to the layers' outputs, the examples' squared gradient norms from inputs and
output gradients, then one weighted sum.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dpbench import clipping
from dpbench.engines.bookkeeping import functions, layers, plan
from dpbench.engines.bookkeeping.calls import Call, Loss, Recorder
from dpbench.engines.bookkeeping.convolutions import Kernels
from dpbench.engines.bookkeeping.gradients import Gradients, added_up
from dpbench.engines.chunks import examples_at_a_time
from dpbench.engines.noise import Noise
from dpbench.engines.protocol import physical_batches
from dpbench.engines.update import NoisySums, Update, add_up
from dpbench.errors import BadInput
from dpbench.losses import cross_entropy
from dpbench.trial import Trial

_Backs = dict[Call, list[Tensor | None]]
HELD_BYTES = 9 * 2**19  # of activations at a time, on a CPU


class Bookkeeping:
    """No gradient of the batch is computed by autograd.

    Args:
        trial: The privacy parameters, clipping rule and optimizer.
        model: Does not mix examples; trained in place.
        noise: Source of the noise, on the model's device.
        physical_batch_size: Most examples in one pass.
        loss: Of the model's outputs, one number for an example.
    """

    def __init__(
        self,
        trial: Trial,
        model: nn.Module,
        *,
        noise: torch.Generator,
        physical_batch_size: int | None,
        loss: Loss = cross_entropy,
    ) -> None:
        self._model, self._loss = model, loss
        self._trial = trial
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._units: list[plan.Unit] | None = None  # looked for in the first batch
        assert trial.max_grad_norm is not None
        # a tensor is divided by the norms in one operation, a number in two
        self._bound = self._parameters[0].new_tensor(trial.max_grad_norm)
        self._factors_of = clipping.spec(trial.clipping).factors
        self._update = Update(self._parameters, trial)
        self._sums = NoisySums(Noise(self._parameters, trial, noise), trial.batch_size)
        self._physical_batch_size = physical_batch_size

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return self._update.state

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total, small = self._bound.new_zeros(()), list[Tensor]()
        self._sums.begin()
        if self._units is None and len(labels):
            self._look(images, labels)
        for part in physical_batches(images, labels, self._physical_batch_size):
            loss, clipped = self._clipped_sums(*part[:2])
            total += loss
            small = add_up(small, clipped)
        self._update.step(self._sums.mean(small))
        return total

    def _look(self, images: Tensor, labels: Tensor) -> None:
        """Learns from the first batch how the model uses its parameters."""
        self._units = plan.units(self._model, self._loss, images, labels)
        self._recorder = Recorder(unit.layer for unit in self._units)
        if self._bound.device.type == "cpu":
            most = examples_at_a_time(self._model, images, held_bytes=HELD_BYTES)
            self._physical_batch_size = min(most, self._physical_batch_size or most)

    def _clipped_sums(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The sum of the examples' losses, and of their clipped gradients by small parameters.

        Those by large ones are added to `self._sums.large`.
        """
        large = self._sums.large
        if not len(labels):
            return self._bound.new_zeros(()), [
                torch.zeros_like(each)
                for place, each in enumerate(self._parameters)
                if place not in large
            ]
        loss, found = self._gradients(images, labels)
        with torch.no_grad():
            last = _largest(found)
            norms = [each.norms() for place, each in found.items() if place != last]
            norms = norms or [images.new_zeros(len(labels))]
            together: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # [B]
            sums: dict[int, Tensor] = {}
            if last is not None and isinstance(kernels := found.pop(last), Kernels):
                factors, of_last = kernels.clip(together, self._factors)
                if last in large:
                    large[last].add_(of_last)
                else:
                    sums[last] = of_last
            else:
                factors = self._factors(together)
            for place, each in found.items():
                if place in large:
                    each.add_to(large[place], factors)
                else:
                    sums[place] = each.weighted_sum(factors)
        return loss, [
            sums[place] if place in sums else torch.zeros_like(each)
            for place, each in enumerate(self._parameters)
            if place not in large
        ]

    def _factors(self, norms: Tensor) -> Tensor:
        """[B]: what gradients of these norms [B] are multiplied by."""
        return self._factors_of(norms, self._bound)

    def _gradients(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[int, Gradients]]:
        """The sum of the losses, and the examples' gradients by the parameters of these places."""
        assert self._units is not None
        with torch.enable_grad(), self._recorder.listening():
            losses = self._loss(self._model(images), labels)
        calls = self._recorder.calls
        for call in calls:
            call.check()
        edges = [edge for call in calls for edge in call.edges]
        backs = iter(torch.autograd.grad(losses.sum(), edges, allow_unused=True))
        given: _Backs = {call: [next(backs) for _ in call.edges] for call in calls}
        found: dict[int, list[Gradients]] = {}
        with torch.no_grad():
            for unit in self._units:
                for place, each in _of_unit(unit, given, losses):
                    found.setdefault(place, []).append(each)
            return losses.detach().sum(), {
                place: added_up(several) for place, several in found.items()
            }


def _largest(found: Mapping[int, Gradients]) -> int | None:
    """The place of the convolution's weight that has most numbers."""
    kernels = {place: each for place, each in found.items() if isinstance(each, Kernels)}
    return max(kernels, key=lambda place: kernels[place].size, default=None)


def _of_unit(unit: plan.Unit, given: _Backs, losses: Tensor) -> list[tuple[int, Gradients]]:
    """The gradients that a unit's calls give, and the places of the parameters.

    Args:
        unit: A unit.
        given: All calls, and the gradients of the losses by their outputs.
        losses: Of the examples, [B].

    Raises:
        BadInput: The calls are not those that were planned.
    """
    examples = len(losses)
    calls = [call for call in given if call.layer is unit.layer]
    found: list[tuple[int, Gradients]] = []
    if len(calls) != len(unit.led):
        raise BadInput(
            f"The bookkeeping engine knows no model that calls {unit.layer} more often for one "
            "batch than for another."
        )
    for call, led in zip(calls, unit.led, strict=True):
        sizes = [len(each) for each, first in zip(call.inputs, led, strict=True) if first]
        if any(size != examples for size in sizes):
            raise BadInput(f"Expected {unit.layer} to be given {examples} examples, not {sizes}.")
        backs = given[call]
        if all(back is None for back in backs):
            continue
        filled = [
            losses.new_zeros(shape) if back is None else back
            for back, shape in zip(backs, call.shapes, strict=True)
        ]
        if unit.by_formula:
            of_layer = layers.by_parameter(call, filled[0])
            found += [(place, of_layer[name]) for name, place in unit.by_formula.items()]
        if unit.as_function:
            parameters = {name: unit.layer.get_parameter(name) for name in unit.as_function}
            of_function = functions.by_parameter(call, filled, parameters, led)
            found += [(place, of_function[name]) for name, place in unit.as_function.items()]
    return found
