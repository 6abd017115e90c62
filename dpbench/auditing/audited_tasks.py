"""What an audit trains, where that is not the tutorial's CNN."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import datasets, engines, models, user_code
from dpbench.datasets import Data, resolution
from dpbench.errors import BadInput
from dpbench.models import user_models
from dpbench.trial import NON_PRIVATE, Workload

if TYPE_CHECKING:
    from torch import nn


def task(
    model: "str | Callable[..., nn.Module] | None",
    model_args: Mapping[str, Any] | None,
    dataset: str | Callable[[Path], Data] | Data | None,
    data_root: Path | None,
) -> Workload | None:
    """The model, on inputs like the dataset's; None where neither is named.

    Args:
        model: A name, or a user's function; None for the dataset's default.
        model_args: Of the user's function.
        dataset: A name, a user's function, or data; None for MNIST.
        data_root: Where a user's function finds its data.

    Raises:
        BadInput: There is no such model or dataset, or they do not go together.
    """
    if model is None and dataset is None:
        return None
    root = resolution.data_root(data_root)
    name = resolution.dataset(datasets.DEFAULT if dataset is None else dataset, root)
    named = user_code.named(model or datasets.spec(name).model)
    if not named:
        raise BadInput(f"Expected a model for dataset={name}, which has none by default.")
    fields: Mapping[str, Any] = {"model": named}
    if user_code.is_reference(named):
        fields = user_models.introduce(named, model_args or {}).fields
    elif model_args:
        raise BadInput(f"Expected no model_args for {named}: built-in models take no arguments.")
    models.refuse(fields["model"], name)
    return Workload(**fields, dataset=name, data_hash=datasets.data_hash(name), batch_size=1)


def audited_engines(task: Workload | None) -> list[str]:
    """The private engines that have a step of their own for the task."""
    private = engines.private_names()
    if task is None:
        return list(private)
    return [name for name in private if engines.has_own_step(name, task)]


def fastest(task: Workload) -> str:
    """The fastest private engine for the task."""
    private = next(name for name in engines.private_names() if name != NON_PRIVATE)
    return engines.fastest(engines.timing_trial(private, task))
