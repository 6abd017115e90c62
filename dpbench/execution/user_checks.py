"""What is refused of users' models and data before the first trial. Imports torch when it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import datasets, losses, models, user_code
from dpbench.datasets import user_data
from dpbench.errors import BadInput, UserCodeError
from dpbench.models import user_models
from dpbench.trial import Trial
from dpbench.user_code import Code, importing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EXAMPLES = 8  # that a model is tried on
_SEED = 0


def check(trials: Sequence[Trial], data_root: Path) -> None:
    """Tries each model of the trials on some examples, where the model or the data is the user's.

    Raises:
        BadInput: The model differs when it is built again under one seed, does not fit the
            inputs, or returns no logits of the targets' classes.
        UserCodeError: A function of the user's raises an error.
    """
    tried = {
        (trial.model, trial.dataset): trial
        for trial in trials
        if user_code.is_reference(trial.model)
        or user_code.is_reference(trial.dataset)
        or trial.loss is not None
    }
    for trial in tried.values():
        inputs, targets = _examples(trial.dataset, data_root)
        model = _built(trial)
        outputs = _outputs(trial, model, inputs)
        if trial.loss is None:
            _refuse_outputs(trial, outputs, targets)
        else:
            _refuse_losses(losses.known(trial.loss), outputs, targets)


def _examples(dataset: str, data_root: Path) -> "tuple[Tensor, Tensor]":
    """Some training examples, prepared; random ones of a built-in dataset.

    And of ids, such as those of tokens, the examples with the largest and the least one of all.
    """
    import torch

    from dpbench.datasets import loading

    if not user_code.is_reference(dataset):
        data = loading.random(dataset, EXAMPLES, "cpu")
        return data.batch(torch.arange(EXAMPLES))
    data = loading.load(dataset, data_root, "cpu")
    parts = [(data.train[0][:EXAMPLES], data.train[1][:EXAMPLES])]
    for inputs, targets in (data.train, data.test, *([data.validation] if data.validation else [])):
        if not inputs.is_floating_point():
            of_each = inputs.flatten(1) if inputs.dim() > 1 else inputs[:, None]
            ends = torch.stack([of_each.amax(1).argmax(), of_each.amin(1).argmin()])
            parts.append((inputs[ends], targets[ends]))
    inputs, targets = (torch.cat(each) for each in zip(*parts, strict=True))
    return user_code.calling(user_data.known(dataset).code, data.prepared, inputs), targets


def _built(trial: Trial) -> "nn.Module":
    """The model, which is the same when it is built again."""
    import torch

    model, again = (
        models.build(trial.model, trial.dataset, seed=_SEED, device="cpu") for _ in range(2)
    )
    one, other = model.state_dict(), again.state_dict()
    if list(one) != list(other):
        raise BadInput(
            f"{trial.model} has other layers when it is built again: arms must start alike."
        )
    for name, value in one.items():
        if not torch.equal(value, other[name]):
            raise BadInput(
                f"{trial.model} has another {name} when it is built again under one seed: draw "
                "initial weights from torch's generator alone, so that arms start alike."
            )
    return model


def _outputs(trial: Trial, model: "nn.Module", inputs: "Tensor") -> "Tensor":
    """What the model returns for the inputs.

    Raises:
        BadInput: It does not fit them, or returns no tensor.
        UserCodeError: It raises an error in the user's own lines.
    """
    import torch

    code = user_models.known(trial.model).code if user_code.is_reference(trial.model) else None
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            outputs = model(inputs) if code is None else user_code.calling(code, model, inputs)
    except UserCodeError as error:
        why = error.__cause__ or error
        if code is not None and importing.frames(code, why) and not _outside(model, inputs, why):
            raise
        raise _misfit(trial, model, inputs, why) from error
    except Exception as error:
        raise _misfit(trial, model, inputs, error) from error
    if not isinstance(outputs, torch.Tensor):
        raise BadInput(f"Expected {trial.model} to return a tensor, not {type(outputs).__name__}.")
    return outputs


def _misfit(trial: Trial, model: "nn.Module", inputs: "Tensor", error: BaseException) -> BadInput:
    from dpbench.engines.preflight import fit

    if (told := _outside(model, inputs, error)) is not None:
        return BadInput(f"{trial.model} does not fit the inputs of {trial.dataset}: {told}")
    return BadInput(
        f"{trial.model} does not fit the inputs of {trial.dataset}, {_said(inputs)}: "
        f"{fit.where(model, error)}{fit.said(error)}"
    )


def _outside(model: "nn.Module", inputs: "Tensor", error: BaseException) -> str | None:
    """Which id raised the error, since a layer has no embedding of it; None where it is another."""
    from torch import nn

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


def _refuse_outputs(trial: Trial, outputs: "Tensor", targets: "Tensor") -> None:
    """Raises BadInput unless they are logits of the targets' classes."""
    data = datasets.spec(trial.dataset)
    if targets.is_floating_point() or targets.dim() > 1:
        raise BadInput(
            f"Expected the targets of {trial.dataset} to be classes, int64 [N], not "
            f"{_said(targets)}: cross entropy takes no others; give a loss of your own with --loss."
        )
    batch = len(targets)
    if outputs.dim() != 2 or len(outputs) != batch or not outputs.is_floating_point():
        raise BadInput(
            f"Expected {trial.model} to return logits [{batch}, classes] for {batch} examples, not "
            f"{_said(outputs)}."
        )
    if outputs.shape[1] < data.classes:
        raise BadInput(
            f"Expected {trial.model} to return logits of {data.classes} classes, since targets of "
            f"{trial.dataset} go up to {data.classes - 1}, not of {outputs.shape[1]}."
        )


def _refuse_losses(code: Code, outputs: "Tensor", targets: "Tensor") -> None:
    """Raises BadInput unless the user's loss is one number an example."""
    import torch

    found = user_code.call(code, outputs, targets)
    if not isinstance(found, torch.Tensor):
        raise BadInput(f"Expected {code.name} to return a tensor, not {type(found).__name__}.")
    if found.shape != (len(targets),) or not found.is_floating_point():
        raise BadInput(
            f"Expected {code.name} to return one number an example, [{len(targets)}], not "
            f"{_said(found)}: leave out the mean over the batch, and average the rest."
        )
    if not torch.isfinite(found).all():
        raise BadInput(f"Expected {code.name} to return finite numbers, not {found.tolist()}.")


def _said(tensor: "torch.Tensor") -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
