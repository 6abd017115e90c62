"""Holds engines against a plain loop over single examples."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from dpbench import engines
from dpbench.engines.preflight import culprit, fit, gradients, model_checks, stepping
from dpbench.engines.preflight.gradients import Reference
from dpbench.engines.preflight.refusals import Refusal
from dpbench.engines.preflight.stepping import Outcome
from dpbench.engines.preflight.task import Task
from dpbench.errors import BadInput
from dpbench.losses import Loss, cross_entropy
from dpbench.trial import Trial

EXAMPLES = 5  # few sizes of models are this one, so that a batch dimension is known by it


def preflight(
    trial: Trial,
    make: nn.Module | Callable[[], nn.Module],
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss = cross_entropy,
    classes: int | None = None,
) -> None:
    """Returns where the trial's engine is right for the model.

    Args:
        trial: Names the engine and the clipping rule; its other fields are not looked at.
        make: Returns the model as it is trained, a new one each time, on the device of the inputs;
            or such a model, which is copied and left as it is.
        inputs: Prepared, [B, ...]; the first EXAMPLES of them are used.
        targets: [B, ...].
        loss: (output, target) -> [B], as the engine has it.
        classes: Of the targets, for cross entropy; None for as many as the targets show.

    Raises:
        BadInput: The model does not fit inputs, targets or loss, or the engine is not right for it.
            One line with the layer and the remedy.
    """
    refuse(trial, Preflight(make, inputs, targets, loss=loss, classes=classes))


def refuse(trial: Trial, checked: "Preflight") -> None:
    """Raises BadInput, with an engine that would do, where the trial's is not right."""
    found = checked.refusal(trial)
    if found is None:
        return
    if found.of_model:
        raise BadInput(f"Cannot train model={trial.model} privately: {found}.")
    other = checked.alternative(trial)
    remedy = "" if other is None else f"{'; or' if found.remedy else ';'} use engine={other}"
    raise BadInput(f"Cannot train model={trial.model}: {trial.engine} {found}{remedy}.")


class Preflight:
    """Checks of engines on one model. See `preflight` for the arguments."""

    def __init__(
        self,
        make: nn.Module | Callable[[], nn.Module],
        inputs: Tensor,
        targets: Tensor,
        *,
        loss: Loss = cross_entropy,
        classes: int | None = None,
    ) -> None:
        build = partial(deepcopy, make) if isinstance(make, nn.Module) else make
        inputs, targets = inputs[:EXAMPLES], targets[:EXAMPLES]
        fit.check(build, inputs, targets, loss=loss, classes=classes)
        self._task = Task.of(build, inputs, targets, loss)

    @cached_property
    def _dtype(self) -> torch.dtype:
        """float64 where the model can."""
        if self._random:
            return torch.float32
        try:
            gradients.together(self._task, torch.float64)
        except Exception:  # a model may make float32 tensors of its own
            return torch.float32
        return torch.float64

    @cached_property
    def _random(self) -> bool:
        return model_checks.is_random(self._task)

    @cached_property
    def of_model(self) -> Refusal | None:
        """Why no private engine can train the model; None where nothing is found."""
        found = model_checks.mixing(self._task, self._dtype)
        return found or model_checks.alone(self._task, self._dtype)

    @cached_property
    def _of_examples(self) -> Reference:
        return gradients.reference(self._task, self._dtype, of_batch=self._random)

    @cached_property
    def _of_batch(self) -> Reference:
        """Of the non-private step, which may mix examples."""
        return gradients.reference(self._task, self._dtype, of_batch=True)

    def refusal(self, trial: Trial) -> Refusal | None:
        """Why the trial's engine is not used for the model; None where it is right."""
        if trial.private and self.of_model is not None:
            return self.of_model
        if (outcome := self.outcome(trial)) is None:
            return None
        return culprit.refusal(trial, self._task, outcome, self._dtype)

    def outcome(self, trial: Trial) -> Outcome | None:
        """What the trial's engine does worst; None where it is right."""
        reference = self._of_examples if trial.private else self._of_batch
        outcome = stepping.worst(trial, self._task, reference)
        return None if outcome.error <= reference.tolerance else outcome

    def implementation(self, trial: Trial) -> str:
        """The engine that really computes the trial's step on the model.

        Raises:
            BadInput: Neither the trial's engine nor a stand-in can.
        """
        return engines.implementation(trial, self._task.model()).name

    def fastest(self, trial: Trial) -> str:
        """The fastest engine that supports the trial and is right for the model.

        Args:
            trial: Its engine is not looked at, but for whether it is private.

        Raises:
            BadInput: No engine is.
        """
        if trial.private and self.of_model is not None:
            raise BadInput(f"Cannot train model={trial.model} privately: {self.of_model}.")
        if (right := self.alternative(trial)) is not None:
            return right
        names = _by_speed(trial, self._task.inputs.device.type)
        reasons = [f"{name} {self.refusal(replace(trial, engine=name))}" for name in names]
        raise BadInput(f"No engine is right for model={trial.model}: {'; '.join(reasons)}.")

    def alternative(self, trial: Trial) -> str | None:
        """The fastest engine that is right where the trial's is not; None where there is none."""
        names = _by_speed(trial, self._task.inputs.device.type)
        right = (name for name in names if self.outcome(replace(trial, engine=name)) is None)
        return next(right, None)


def _by_speed(trial: Trial, device: str) -> list[str]:
    """The engines that may train such a trial, the fastest first."""
    known = [engines.spec(name) for name in engines.names()]
    alike = [
        each
        for each in known
        if each.private == trial.private and each.supports(trial, device) is None
    ]
    return [each.name for each in sorted(alike, key=lambda each: -each.examples_per_second)]
