"""Data in the features of a model that is trained on a fixed map of its inputs."""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from dpbench.datasets import Data
from dpbench.models.model_spec import ModelSpec

CHUNK = 1_000  # examples that are prepared at once


@lru_cache(maxsize=2)
def of(model: ModelSpec, data: Data, examples: int | None) -> Data:
    """The data with features in place of inputs, computed once in this process.

    They are kept in half precision, which rounds each number by a two-thousandth of itself at most.

    Args:
        model: Has `features`.
        data: Of the dataset.
        examples: Of its training set the first so many alone, and no other set; None for all.
    """
    inputs, targets = data.train
    if examples is not None:
        empty = inputs[:0], targets[:0]
        data = replace(
            data, train=(inputs[:examples], targets[:examples]), test=empty, validation=None
        )
    return replace(
        data,
        train=_computed(model, data, *data.train),
        test=_computed(model, data, *data.test),
        validation=data.validation and _computed(model, data, *data.validation),
        prepare=Tensor.float,
    )


def _computed(
    model: ModelSpec, data: Data, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    assert model.features is not None
    with torch.no_grad():
        parts = [model.features(data.prepared(part)).half() for part in inputs.split(CHUNK)]
    return torch.cat(parts), targets
