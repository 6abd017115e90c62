"""The models of a grid: built-in ones, and users' functions with each of their arguments."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from dpbench import datasets, user_code
from dpbench.errors import BadInput
from dpbench.execution.grid import Grid
from dpbench.models import user_models
from dpbench.search import ranges


def models_of(grid: Grid, dataset: str) -> Iterable[Mapping[str, Any]]:
    """The fields of trials that say which model: a product of each function's arguments.

    Raises:
        BadInput: There is no such function, or it does not take the arguments.
    """
    default = datasets.spec(dataset).model
    names = grid.model or ((default,) if default else ())
    if not names:
        raise BadInput(
            f"Expected a model for dataset={dataset}, which has none by default: give --model."
        )
    given = grid.model_args or {}
    if given and not any(map(user_code.is_reference, names)):
        raise BadInput(
            f"Expected no model_args for {', '.join(names)}: built-in models take no arguments."
        )
    for name in names:
        if not user_code.is_reference(name):
            yield {"model": name}
            continue
        for values in itertools.product(
            *(ranges.listed(f"model_args {key}", given[key]) for key in given)
        ):
            yield user_models.introduce(name, dict(zip(given, values, strict=True))).fields
