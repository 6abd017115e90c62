"""What is timed, checked or audited: one model on one dataset, of typed names or functions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpbench import datasets, losses, user_code
from dpbench.datasets import Data, resolution
from dpbench.errors import BadInput
from dpbench.execution.grid import Grid
from dpbench.execution.grid_models import models_of
from dpbench.trial import Workload


def workload(
    *,
    dataset: str | Callable[[Path], Data] | Data,
    model: str | Callable[..., Any] | None,
    model_args: Any,
    loss: str | Callable[..., Any] | None,
    data_root: Path,
) -> Workload:
    """The model on the dataset, at a batch size of 1; users' functions are found and made known.

    Args:
        dataset: A name, `auto`, a user's function, or data.
        model: A name or a user's function; None for the dataset's default.
        model_args: Of the user's function, one value each: a mapping, or texts NAME=VALUE.
        loss: A user's function; None for cross entropy.
        data_root: What a user's function is given.

    Raises:
        BadInput: There is no such dataset, model or loss, they do not go together, or an argument
            has several values.
    """
    name = resolution.dataset(dataset, data_root)
    found = list(models_of(Grid(model=model, model_args=model_args), name))  # type: ignore[arg-type]
    if len(found) > 1:
        raise BadInput(f"Expected one model, not {', '.join(each['model'] for each in found)}.")
    own = None if loss is None else losses.introduce(user_code.named(loss))
    return Workload(
        **found[0],
        dataset=name,
        data_hash=datasets.data_hash(name),
        loss=None if own is None else own.name,
        loss_hash=None if own is None else own.hash,
        batch_size=1,
    )
