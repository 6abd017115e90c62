"""Finds the layer that an engine cannot compute: each layer is trained with all others frozen."""

import re
from dataclasses import dataclass, replace

import torch
from torch import nn

from dpbench.engines.preflight import fit, gradients, layers, stepping
from dpbench.engines.preflight.refusals import Refusal
from dpbench.engines.preflight.stepping import Outcome
from dpbench.engines.preflight.task import Task
from dpbench.errors import BadInput
from dpbench.trial import Trial

MOST_LAYERS = 60  # that are tried
_SAYS = re.compile(r"The (?P<engine>\S+) engine (cannot train this model: it )?")


def refusal(trial: Trial, task: Task, outcome: Outcome, dtype: torch.dtype) -> Refusal:
    """Why the engine is not used, with the layer where one is found.

    Args:
        trial: Names the engine.
        task: On which it was not right.
        outcome: How it was not right.
        dtype: In which gradients are computed.
    """
    raised, model = outcome.raised, task.model()
    if isinstance(raised, BadInput):
        return Refusal(reason=_own_words(trial, raised) + outcome.batch)
    if raised is None:
        what = f"gets the clipped sum wrong by {_percent(outcome.error)}{outcome.batch}"
    else:
        what = f"fails{outcome.batch} ({fit.said(raised)})"
    path = _path(trial, task, raised, dtype)
    if path is None:
        return Refusal(reason=what, remedy=_without_layer(raised))
    return Refusal(
        reason=f"{what}, at {layers.described(model, path)}",
        layer=path,
        remedy=layers.remedy(model, path),
    )


def _own_words(trial: Trial, refused: BadInput) -> str:
    """What one of our own engines says of itself, as the end of a sentence."""
    text = str(refused).rstrip(".")
    said = _SAYS.match(text)
    if said is None:
        return f"refuses it ({text})"
    name, reason = said["engine"], text[said.end() :]
    return reason if name == trial.engine else f"is replaced by {name}, which {reason}"


def _percent(error: float) -> str:
    return f"{100 * error:.2g} %" if error < 10 else f"a factor of {error:.2g}"


def _writes_over(raised: Exception | None) -> bool:
    return raised is not None and any(
        word in str(raised) for word in ("inplace", "in-place", "in place")
    )


def _without_layer(raised: Exception | None) -> str | None:
    return "write nothing in place, such as by relu_" if _writes_over(raised) else None


def _path(trial: Trial, task: Task, raised: Exception | None, dtype: torch.dtype) -> str | None:
    """The path of the layer that is to blame; None where none is found.

    Layers that engines are known to have trouble with are tried first.
    """
    model = task.model()
    if _writes_over(raised):
        return layers.writes_over(model)
    paths = sorted(_with_parameters(model), key=lambda path: layers.remedy(model, path) is None)
    return next((path for path in paths if _is_wrong(trial, task, path, dtype)), None)


def _with_parameters(model: nn.Module) -> list[str]:
    """The paths of the layers that have parameters of their own."""
    paths = [path for path, layer in model.named_modules() if [*layer.parameters(recurse=False)]]
    return paths[:MOST_LAYERS]


def _is_wrong(trial: Trial, task: Task, path: str, dtype: torch.dtype) -> bool:
    """Whether the engine is wrong where this layer alone is trained, or cannot train it."""
    only = replace(task, make=_Frozen(task=task, path=path))
    if not gradients.parameters_of(only.model()):
        return False
    reference = gradients.reference(only, dtype, of_batch=not trial.private)
    if not reference.rows.any():
        return False
    return stepping.worst(trial, only, reference).error > reference.tolerance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Frozen:
    """Makes the task's model with all layers frozen but one.

    Attributes:
        task: Whose model.
        path: Of the layer that is trained.
    """

    task: Task
    path: str

    def __call__(self) -> nn.Module:
        model = self.task.make()
        kept = {
            id(each)
            for each in model.get_submodule(self.path).parameters(recurse=False)
            if each.requires_grad
        }
        for each in model.parameters():
            each.requires_grad_(id(each) in kept)
        return model
