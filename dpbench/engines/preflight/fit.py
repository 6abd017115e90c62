"""Whether a model takes the inputs, and gives what the loss takes."""

import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn

from dpbench import strings
from dpbench.engines.preflight import layers
from dpbench.engines.preflight.task import seeded
from dpbench.errors import BadInput, UserCodeError
from dpbench.losses import Loss, cross_entropy

_LIBRARIES = ("torch", "opacus", "dpbench")


class Misfit(BadInput):
    """The model, the inputs, the targets and the loss do not go together."""


def check(
    make: Callable[[], nn.Module],
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss,
    classes: int | None,
    call: Callable[[nn.Module, Tensor], object] = nn.Module.__call__,
) -> None:
    """Returns where engines could train the model.

    Args:
        make: As of `Task`.
        inputs: [B, ...].
        targets: [B, ...].
        loss: One number an example.
        classes: Of the targets; None for as many as the targets show. Not looked at where the loss
            is not cross entropy.
        call: (model, inputs) -> outputs.

    Raises:
        Misfit: None could. One line with the value and the remedy.
        UserCodeError: The model or the loss raises an error of the user's.
    """
    model = make()
    if not any(each.requires_grad for each in model.parameters()):
        raise Misfit("Expected a model with weights to train; all of this one's are frozen.")
    with seeded(inputs.device):
        outputs = _outputs(model, inputs, call)
        if loss is cross_entropy:
            _check_logits(outputs, targets, classes)
        losses = _losses(loss, outputs, targets)
    if losses.shape != targets.shape[:1] or not losses.is_floating_point():
        raise Misfit(
            f"Expected the loss to be one number an example, [{len(targets)}], not {kind(losses)}: "
            "leave out the mean over the batch, and average the rest."
        )
    if not torch.isfinite(losses).all():
        raise Misfit(f"Expected the loss to be finite, and it is {losses.tolist()}.")
    if not losses.requires_grad:
        raise Misfit("Expected the loss to depend on the model's weights; it has no gradient.")


def kind(tensor: Tensor) -> str:
    """Type and shape: `float32 [5, 1, 28, 28]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _outputs(
    model: nn.Module, inputs: Tensor, call: Callable[[nn.Module, Tensor], object]
) -> Tensor:
    try:
        outputs = call(model, inputs)
    except UserCodeError as error:
        if (told := _outside(model, inputs, error.__cause__)) is None:
            raise
        raise Misfit(told) from error
    except Exception as error:  # of any kind: what it is, is said
        told = _outside(model, inputs, error) or (
            f"The model does not take the dataset's inputs, {kind(inputs)}: "
            f"{where(model, error)}{said(error)}"
        )
        raise Misfit(told) from error
    if not isinstance(outputs, Tensor):
        raise Misfit(
            f"Expected the model to return a tensor, not {type(outputs).__name__}: return the "
            "logits alone."
        )
    return outputs


def _outside(model: nn.Module, inputs: Tensor, error: BaseException | None) -> str | None:
    """Which id raised the error, since a layer has no embedding of it; None where it is another."""
    if inputs.is_floating_point() or not isinstance(error, IndexError):
        return None
    low, high = int(inputs.min()), int(inputs.max())
    if low < 0:
        return f"token {low} is below 0, the first of embeddings: shift the ids."
    sizes = {
        name: layer.num_embeddings
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.num_embeddings <= high
    }
    if not sizes:
        return None
    name, size = max(sizes.items(), key=lambda each: each[1])
    return (
        f"token {high} is outside the vocabulary of layer {name!r}, {size:,} embeddings for 0 to "
        f"{size - 1}: give it {high + 1:,} or more, or map rare tokens to one."
    )


def _check_logits(outputs: Tensor, targets: Tensor, classes: int | None) -> None:
    if targets.dtype != torch.int64 or targets.dim() != 1:
        raise Misfit(
            f"Expected targets of classes, int64 [B], and not {kind(targets)}: cross entropy takes "
            "no others; name another loss with --loss."
        )
    needed = max(classes or 0, int(targets.max()) + 1)
    if outputs.dim() != 2 or len(outputs) != len(targets) or outputs.shape[1] < needed:
        raise Misfit(
            f"Expected the model to return logits [{len(targets)}, {needed}] for "
            f"{len(targets)} examples of {needed} classes, not {kind(outputs)}."
        )


def _losses(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    try:
        losses = loss(outputs, targets)
    except UserCodeError:
        raise
    except Exception as error:  # of any kind
        raise Misfit(
            f"The loss does not take outputs of {kind(outputs)} with targets of {kind(targets)}: "
            f"{said(error)}"
        ) from error
    if not isinstance(losses, Tensor):
        raise Misfit(f"Expected the loss to return a tensor, not {type(losses).__name__}.")
    return losses


def said(error: BaseException) -> str:
    """The kind of the error and the first line of what it says."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {strings.one_line(first)}" if first else type(error).__name__


def where(model: nn.Module, error: BaseException) -> str:
    """The innermost layer that the error passed through, and the user's line: `layer 'a': `."""
    paths = {id(layer): path for path, layer in model.named_modules()}
    layer, line = None, None
    for frame, number in traceback.walk_tb(_traceback(error)):
        found = paths.get(id(frame.f_locals.get("self")))
        layer = layer if found is None else found
        file = Path(frame.f_code.co_filename)
        if not any(name in file.parts for name in _LIBRARIES):
            line = f"{file.name}, line {number}"
    parts = [layers.described(model, layer)] if layer else []
    parts += [line] if line else []
    return ", ".join(parts) + ": " if parts else ""


def _traceback(error: BaseException) -> TracebackType | None:
    return error.__traceback__
