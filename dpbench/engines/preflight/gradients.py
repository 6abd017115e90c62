"""Every example's gradient, by autograd alone: what engines are held against."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpbench.engines.preflight.task import Task, seeded

TOLERANCE = 3e-5  # of an engine's relative error, or
ROUNDINGS = 20  # times that of float32


def parameters_of(model: nn.Module) -> list[nn.Parameter]:
    """Those that are trained."""
    return [each for each in model.parameters() if each.requires_grad]


def vector(parts: list[Tensor]) -> Tensor:
    """All parts as one float64 vector, in whatever layout they are."""
    return torch.cat([part.detach().reshape(-1).double() for part in parts])


def alone(task: Task, dtype: torch.dtype) -> Tensor:
    """Of each example by itself, as a batch of one: float64 [B, P]."""
    model = task.model().to(dtype)
    rows = []
    for index in range(len(task)):
        only = slice(index, index + 1)
        rows.append(_rows(task, model, task.inputs[only], task.targets[only]))
        task.restore(model)
    return torch.cat(rows)


def together(task: Task, dtype: torch.dtype, inputs: Tensor | None = None) -> Tensor:
    """Of each example's own loss in the batch of all: float64 [B, P].

    Args:
        task: The examples.
        dtype: Of the weights and of the inputs that are no integers.
        inputs: In place of the task's.
    """
    model = task.model().to(dtype)
    return _rows(task, model, task.inputs if inputs is None else inputs, task.targets)


def _rows(task: Task, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    trained = parameters_of(model)
    if inputs.is_floating_point():
        inputs = inputs.to(trained[0].dtype)
    with seeded(inputs.device):
        losses = task.loss(model(inputs), targets)
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, trained, retain_graph=True, materialize_grads=True)
        rows.append(vector(list(found)))
    return torch.stack(rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """The examples' gradients, and how far rounding alone brings a loop away from them.

    Attributes:
        rows: float64 [B, P].
        rounding: Relative error of the rows in float32; 0 where they are float32 themselves.
        of_batch: Whether the rows are those of the batch of all, since the model is random.
    """

    rows: Tensor
    rounding: float = 0.0
    of_batch: bool = False

    @property
    def tolerance(self) -> float:
        """Largest relative error of an engine that is right."""
        return max(TOLERANCE, ROUNDINGS * self.rounding)


def reference(task: Task, dtype: torch.dtype, *, of_batch: bool) -> Reference:
    """The examples' gradients in that precision.

    Args:
        task: The examples.
        dtype: float64 where the model can.
        of_batch: As of `Reference`.
    """
    if of_batch:
        return Reference(rows=together(task, dtype), of_batch=True)
    rows = alone(task, dtype)
    if dtype == torch.float32:
        return Reference(rows=rows)
    return Reference(rows=rows, rounding=relative_error(alone(task, torch.float32), rows))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Of the whole: parts of it, such as the gradient of a key's bias, may be rounding alone."""
    size, error = float(expected.norm()), float((found - expected).norm())
    if not math.isfinite(error):
        return math.inf
    return error / size if size else (math.inf if error else 0.0)
