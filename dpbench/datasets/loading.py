"""Reads a dataset's examples into tensors, on the device that trains on them."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpbench import datasets, user_code
from dpbench.datasets import user_data
from dpbench.datasets.data import Data
from dpbench.datasets.dataset_spec import DatasetSpec, Shape
from dpbench.errors import BadInput


def load(dataset: str, data_root: Path, device: str, validation_examples: int = 0) -> Data:
    """The dataset on the device; read once per process.

    Files that are not in `data_root` are downloaded there, if a mirror answers. The examples held
    out for validation are a random choice that depends on their number alone.

    Raises:
        BadInput: The dataset is not there and cannot be had, or its files cannot be read.
    """
    own = user_data.known(dataset) if user_code.is_reference(dataset) else None
    return _load(dataset, own, data_root, device, validation_examples)


@cache
def _load(
    dataset: str,
    own: user_data.UserDataset | None,
    data_root: Path,
    device: str,
    validation_examples: int,
) -> Data:
    if validation_examples:
        return _hold_out(_load(dataset, own, data_root, device, 0), validation_examples)
    if own is not None:
        return _on(device, user_data.as_known(own, user_data.load(own.code, data_root)))
    train, test = _read(dataset, data_root)
    return Data(
        train=(train[0].to(device), train[1].to(device)),
        test=(test[0].to(device), test[1].to(device)),
        prepare=normalising(datasets.spec(dataset), device),
    )


def _on(device: str, data: Data) -> Data:
    """The user's data on the device."""
    moved = {
        part: (examples[0].to(device), examples[1].to(device))
        for part in user_data.PARTS
        if (examples := getattr(data, part)) is not None
    }
    return Data(**moved, prepare=data.prepare)


def random(dataset: str, examples: int, device: str) -> Data:
    """Random training examples of the dataset's shape and type; the test set is empty."""
    spec, draws = datasets.spec(dataset), torch.Generator().manual_seed(0)
    inputs = _random_inputs(spec, (examples, *spec.input_shape), draws).to(device)
    targets = torch.randint(0, spec.classes, (examples,), generator=draws).to(device)
    return Data(
        train=(inputs, targets),
        test=(inputs[:0], targets[:0]),
        prepare=normalising(spec, device),
    )


def _random_inputs(spec: DatasetSpec, shape: Shape, draws: torch.Generator) -> Tensor:
    if spec.kind == "pixels":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    if spec.kind == "tokens":
        assert spec.vocabulary is not None
        return torch.randint(0, spec.vocabulary, shape, generator=draws)
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    return mean + std * torch.randn(shape, generator=draws)


def normalising(spec: DatasetSpec, device: str) -> Callable[[Tensor], Tensor] | None:
    """Turns raw inputs [B, ...] into float32 of about zero mean and unit variance.

    None for tokens, which a model takes as they are.
    """
    if not spec.mean:
        return None
    largest = 255 if spec.kind == "pixels" else 1  # the constants are of pixels from 0 to 1
    channels = list(zip(spec.mean, spec.std, strict=True))
    scales = [1 / (largest * std) for _, std in channels]
    shifts = [mean / std for mean, std in channels]
    if len(channels) == 1:
        return partial(_normalise, scale=scales[0], shift=shifts[0])
    scale, shift = (
        torch.tensor(each, device=device).view(-1, *(1 for _ in spec.input_shape[1:]))  # [C, 1, 1]
        for each in (scales, shifts)
    )
    return partial(_normalise, scale=scale, shift=shift)


def _normalise(inputs: Tensor, *, scale: Tensor | float, shift: Tensor | float) -> Tensor:
    return inputs.to(torch.float32, copy=True).mul_(scale).sub_(shift)


def _hold_out(data: Data, validation_examples: int) -> Data:
    inputs, targets = data.train
    order = np.random.default_rng(0).permutation(len(targets))
    held_out, kept = (
        torch.from_numpy(np.sort(part)).to(targets.device)
        for part in (order[:validation_examples], order[validation_examples:])
    )
    return replace(
        data,
        train=(inputs[kept], targets[kept]),
        validation=(inputs[held_out], targets[held_out]),
    )


def _read(dataset: str, data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(inputs, targets) of the training set, and of the test set."""
    spec = datasets.spec(dataset)
    try:
        train, test = spec.source.read(data_root)
        _check(spec, "training", *train, spec.train_examples)
        _check(spec, "test", *test, spec.test_examples)
    except (OSError, RuntimeError, EOFError, zlib.error, AssertionError, ValueError) as error:
        # the last two where there is no magic number, or not as many bytes as it says
        why = next(iter(str(error).splitlines()), f"its files hold something else ({error!r})")
        raise BadInput(
            f"Cannot load dataset={dataset} from {data_root}: {why.rstrip('.')}. "
            f"{spec.source.remedy(data_root)}, or name the folder that has them with --data-root."
        ) from error
    return train, test


def _check(spec: DatasetSpec, part: str, inputs: Tensor, targets: Tensor, examples: int) -> None:
    """Raises ValueError where files do not belong together, or are not those of the dataset."""
    if len(inputs) != len(targets):
        raise ValueError(f"its {part} set has {len(inputs):,} inputs and {len(targets):,} targets")
    if inputs.shape != (examples, *spec.input_shape):
        raise ValueError(
            f"its {part} set has {len(inputs):,} inputs of {_sizes(tuple(inputs.shape[1:]))}, not "
            f"{examples:,} of {_sizes(spec.input_shape)}"
        )
    low, high = int(targets.min()), int(targets.max())
    if not 0 <= low <= high < spec.classes:
        raise ValueError(f"its {part} targets are {low} to {high}, not 0 to {spec.classes - 1}")


def _sizes(shape: Shape) -> str:
    return " x ".join(map(str, shape))
