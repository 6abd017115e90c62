"""What every layer gives for a batch, to find the first that differs."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpbench.engines.preflight.task import Task, seeded


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One call of a layer.

    Attributes:
        layer: Its path in the model.
        inputs: The tensors that it was given.
        outputs: The tensors that it gave.
    """

    layer: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def calls(task: Task, inputs: Tensor, dtype: torch.dtype) -> list[Call]:
    """Of every layer for these inputs, in the order in which they ended: inner ones first."""
    model = task.model().to(dtype)
    made: list[Call] = []
    for path, layer in model.named_modules():

        def keep(_layer: nn.Module, given: object, output: object, path: str = path) -> None:
            made.append(Call(layer=path, inputs=_tensors(given), outputs=_tensors(output)))

        layer.register_forward_hook(keep)
    if inputs.is_floating_point():
        inputs = inputs.to(dtype)
    with torch.no_grad(), seeded(inputs.device):
        model(inputs)
    return made


def first_that_mixes(task: Task, changed: Tensor, dtype: torch.dtype) -> str | None:
    """The layer that gives an example something else because the first one has changed.

    Args:
        task: The examples.
        changed: The task's inputs but for the first.
        dtype: To compute in.

    Returns:
        The path of the first layer whose inputs for the other examples are the same, and whose
        outputs are not. None where none is found.
    """
    before, after = (calls(task, inputs, dtype) for inputs in (task.inputs, changed))
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    for one, other in zip(before, after, strict=False):
        given, gave = (
            all(
                _alike(*pair, len(task), tolerance)
                for pair in zip(getattr(one, name), getattr(other, name), strict=False)
            )
            for name in ("inputs", "outputs")
        )
        if given and not gave:
            return one.layer
    return None


def _alike(one: Tensor, other: Tensor, examples: int, tolerance: float) -> bool:
    """Whether the tensors are the same for all examples but the first."""
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    sizes = list(one.shape)
    batch = 0 if sizes[:1] == [examples] else 1
    if sizes[batch : batch + 1] != [examples]:
        return True  # it has no batch dimension that is known
    others = torch.arange(1, examples, device=one.device)
    one, other = (each.index_select(batch, others) for each in (one, other))
    return bool((one - other).norm() <= tolerance * one.norm())


def _tensors(value: object) -> list[Tensor]:
    return list(_found(value))


def _found(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value.detach().clone()
    elif isinstance(value, dict):
        for each in value.values():
            yield from _found(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _found(each)
