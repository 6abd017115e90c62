"""What no engine can make good: a model that mixes examples, or keeps what it has seen of them."""

import torch
from torch import Tensor

from dpbench.engines.preflight import fit, gradients, layers, outputs
from dpbench.engines.preflight.refusals import Refusal
from dpbench.engines.preflight.task import SEED, Task


def with_another_first(inputs: Tensor) -> Tensor:
    """The inputs, with another example in place of the first."""
    first = inputs[0]
    for other in inputs[1:]:
        if not torch.equal(first, other):
            return torch.cat([other[None], inputs[1:]])
    if not inputs.is_floating_point():
        return torch.cat([first.flip(-1)[None] if first.dim() else first[None], inputs[1:]])
    draws = torch.Generator().manual_seed(SEED)
    return torch.cat([torch.randn(first.shape, generator=draws).to(first)[None], inputs[1:]])


def is_random(task: Task) -> bool:
    """Whether the model gives other outputs each time, its dropout switched off."""
    given = []
    for seed in (SEED, SEED + 1):
        model = task.model()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            given.append(model(task.inputs))
    return not torch.equal(*given)


def mixing(task: Task, dtype: torch.dtype) -> Refusal | None:
    """Where an example's gradient depends on another example, or a buffer keeps what was seen.

    Changes the first example, and looks at the gradients of the others.
    """
    changed = with_another_first(task.inputs)
    before, after = (gradients.together(task, dtype, inputs) for inputs in (task.inputs, changed))
    if gradients.relative_error(after[1:], before[1:]) > _tolerance(dtype):
        return _mixing(task, outputs.first_that_mixes(task, changed, dtype))
    buffer = _buffer_that_keeps(task, changed)
    return None if buffer is None else _keeping(task, buffer)


def alone(task: Task, dtype: torch.dtype) -> Refusal | None:
    """Where an example's gradient in a batch of one is not that in the batch of all."""
    if is_random(task):
        return None
    try:
        of_examples = gradients.alone(task, dtype)
    except Exception as error:  # of any kind
        return Refusal(
            reason=f"the model fails on a batch of one: {fit.where(task.model(), error)}"
            f"{fit.said(error)}",
            remedy="Poisson sampling draws batches of any size; let the model take them",
            of_model=True,
        )
    together = gradients.together(task, dtype)
    if gradients.relative_error(of_examples, together) <= _tolerance(dtype):
        return None
    return Refusal(
        reason="the model computes an example's output from the number of examples in its batch",
        remedy="compute each example's output from that example alone",
        of_model=True,
    )


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-7 if dtype == torch.float64 else 1e-4


def _mixing(task: Task, path: str | None) -> Refusal:
    model = task.model()
    who = layers.described(model, path or "")
    known = None if path is None else layers.remedy(model, path, mixes=True)
    return Refusal(
        reason=f"{who} mixes the examples of a batch, so that no bound on one example's gradient "
        "holds",
        layer=path,
        remedy=known or "compute each example's output from that example alone",
        of_model=True,
    )


def _keeping(task: Task, buffer: str) -> Refusal:
    path, _, name = buffer.rpartition(".")
    model = task.model()
    return Refusal(
        reason=f"{layers.described(model, path)} keeps in its buffer {name} what it has seen of "
        "the examples, without noise",
        layer=path,
        remedy=layers.remedy(model, path) or "keep nothing of the examples in buffers",
        of_model=True,
    )


def _buffer_that_keeps(task: Task, changed: Tensor) -> str | None:
    """The first buffer that another first example leaves otherwise."""
    left = []
    for inputs in (task.inputs, changed):
        model = task.model()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(SEED)
            model(inputs)
        left.append(dict(model.named_buffers()))
    return next((name for name in left[0] if not torch.equal(left[0][name], left[1][name])), None)
