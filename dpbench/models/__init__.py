"""Models: one file each, which exports a `ModelSpec`. No torch until a model is built."""

from typing import TYPE_CHECKING

from dpbench import datasets, plugins, user_code
from dpbench.errors import BadInput
from dpbench.models import user_models
from dpbench.models.model_spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    from dpbench.datasets import Data

__all__ = ["ModelSpec", "build", "names", "refuse", "spec", "taken"]


def names() -> tuple[str, ...]:
    """The built-in models, in alphabetical order."""
    return plugins.names("models")


def spec(model: str) -> ModelSpec:
    """The model's spec.

    Args:
        model: A built-in name, or that of a user's model that this process knows.

    Raises:
        BadInput: There is no such model.
    """
    if user_code.is_reference(model):
        return user_models.known(model).spec
    found: ModelSpec = plugins.spec("models", model)
    return found


def build(model: str, dataset: str, *, seed: int, device: str) -> "nn.Module":
    """The model for the dataset's inputs and classes, with its initial weights.

    Args:
        model: As of `spec`.
        dataset: As of `datasets.spec`.
        seed: Of the initial weights.
        device: Where the model is put.

    Raises:
        BadInput: There is no such model, or it cannot take the dataset's inputs.
    """
    refuse(model, dataset)
    data = datasets.spec(dataset)
    return spec(model).build(
        data.input_shape, data.classes, seed=seed, device=device, vocabulary=data.vocabulary
    )


def taken(model: str, data: "Data", *, examples: int | None = None) -> "Data":
    """The data as the model takes it: with its features, where it is trained on some.

    Args:
        model: As of `spec`.
        data: Of a dataset.
        examples: Of features those of the first so many training examples alone; None for all.
    """
    found = spec(model)
    if found.features is None:
        return data
    from dpbench.models import features

    return features.of(found, data, examples)


def refuse(model: str, dataset: str) -> None:
    """Raises BadInput where the model cannot take the dataset's inputs, or there is none.

    A user's model says so when it is built.
    """
    if user_code.is_reference(model):
        return
    data = datasets.spec(dataset)
    reason = spec(model).refuses(data.input_shape, data.classes, vocabulary=data.vocabulary)
    if reason is not None:
        raise BadInput(f"Cannot train model={model} on dataset={dataset}: {reason}.")
