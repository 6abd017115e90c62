"""What is refused of users' models and data before the first trial. Imports torch when it runs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import datasets, losses, models, user_code
from dpbench.datasets import user_data
from dpbench.errors import BadInput, UserCodeError
from dpbench.models import user_models
from dpbench.trial import Trial
from dpbench.user_code import importing

if TYPE_CHECKING:
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
    from dpbench.engines.preflight import fit

    for trial in tried.values():
        inputs, targets = _examples(trial.dataset, data_root)
        try:
            fit.check(
                partial(_built, trial),
                inputs,
                targets,
                loss=losses.cross_entropy if trial.loss is None else partial(_losses, trial.loss),
                classes=datasets.spec(trial.dataset).classes,
                call=partial(_outputs, trial.model),
            )
        except fit.Misfit as error:
            by = "" if trial.loss is None else f" with loss={trial.loss}"
            raise BadInput(f"Cannot train {trial.model} on {trial.dataset}{by}: {error}") from error


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


def _outputs(name: str, model: "nn.Module", inputs: "Tensor") -> Any:
    """What the model returns for the inputs.

    Raises:
        UserCodeError: It raises an error in the user's own lines; other errors are raised as such.
    """
    if not user_code.is_reference(name):
        return model(inputs)
    code = user_models.known(name).code
    try:
        return user_code.calling(code, model, inputs)
    except UserCodeError as error:
        if error.__cause__ is None or importing.frames(code, error.__cause__):
            raise
        raise error.__cause__ from None


def _losses(name: str, output: "Tensor", target: "Tensor") -> Any:
    return user_code.call(losses.known(name), output, target)
