"""python bench/mechanisms.py: what each mechanism of a step gives, in pairs.

Each row alternates an engine as it is with the same engine without one mechanism, on one model, and
prints the ratio of their processor times: 0.9 is a tenth saved. On one thread.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import layers as models
from dpbench import cli, engines
from dpbench.engines import chunks, layout, update
from dpbench.engines.bookkeeping import convolutions, gradients, layers, step
from dpbench.engines.bookkeeping.gradients import Kept, OuterProducts, Rows
from dpbench.engines.non_private import step as non_private
from dpbench.measurement import step_timing

PAIRS = 9


def wide() -> nn.Module:
    """Linear layers that are wide for their 16 places."""
    return nn.Sequential(
        nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256), models.Mean(), nn.Linear(256, 10)
    )


CASES = models.CASES | {"wide": models.Case(make=wide, shape=(16, 256))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A mechanism on some models: how it is left out, and which engine has it."""

    mechanism: str
    without: Callable[[], AbstractContextManager[Any]]
    on: Mapping[str, Sequence[int]]  # model -> batch sizes
    engine: str = "bookkeeping"


class Without:
    """An arm that is built and run without the mechanism."""

    def __init__(
        self, without: Callable[[], AbstractContextManager[Any]], make: Callable[[], Any]
    ) -> None:
        self._without = without
        with without():
            self._arm = make()

    def run(self, steps: int) -> None:
        with self._without():
            self._arm.run(steps)


def _patches(layer: Any, seen: Tensor, places: Sequence[int]) -> Tensor:
    grouped: Tensor = seen.view(len(seen), layer.groups, -1, *seen.shape[2:])
    steps = grouped.stride()[3:]
    return grouped.as_strided(
        (len(seen), layer.groups, *places, *layer.kernel_size, grouped.shape[2]),
        (
            *grouped.stride()[:2],
            *(by * step for by, step in zip(layer.stride, steps, strict=True)),
            *(by * step for by, step in zip(layer.dilation, steps, strict=True)),
            grouped.stride(2),
        ),
    )


def _group_norm(call: Any, back: Tensor) -> Any:
    (given,) = call.inputs
    normalised = F.group_norm(given, call.layer.num_groups, eps=call.layer.eps)
    return layers._norm(call.layer, normalised, back, tuple(range(2, given.dim())))


def _layer_norm(call: Any, back: Tensor) -> Any:
    (given,) = call.inputs
    shape = list(call.layer.normalized_shape)
    normalised = F.layer_norm(given, shape, eps=call.layer.eps)
    return layers._norm(call.layer, normalised, back, tuple(range(1, given.dim() - len(shape))))


def _rules(changed: Mapping[Any, Any]) -> Any:
    return mock.patch.object(layers, "_RULES", layers._RULES | dict(changed))


def _chosen(by_gram: bool) -> Any:
    usual = OuterProducts.__init__

    def init(self: OuterProducts, inputs: Tensor, back: Tensor, kept: Kept) -> None:
        usual(self, inputs, back, kept)
        self._by_gram = by_gram

    return mock.patch.object(OuterProducts, "__init__", init)


def _form(self: OuterProducts) -> Tensor:
    return torch.bmm(self._back.mT, self._inputs)


def _formed_norms(self: OuterProducts) -> Tensor:
    return update.row_norms(self.formed().flatten(1))


def _all_rows(self: Rows) -> Tensor:
    return update.row_norms(self._added_up().reshape(len(self._ids), -1))


def _dense(self: Rows, total: Tensor, factors: Tensor) -> None:
    scaled = self._back * factors[:, None, None]
    total += torch.ops.aten.embedding_dense_backward(scaled, self._ids, len(total), -1, False)


def _torch_sort(array: Any, axis: int) -> Any:
    return torch.from_numpy(array).sort(dim=axis).values.numpy()


BOTH = (64, 256)
CONVOLUTIONS = {"tutorial-cnn": BOTH, "tanh-cnn": BOTH, "resnet-gn": (64,)}
EVERY = CONVOLUTIONS | {"mlp": BOTH, "embeddings": BOTH, "transformer": (64,)}
patch = mock.patch.object
ROWS = (
    Row(
        mechanism="chunks by bytes of activations",
        without=lambda: patch(step, "examples_at_a_time", lambda *_, **__: chunks.MOST),
        on=EVERY,
    ),
    Row(
        mechanism="chunks by bytes of activations",
        without=lambda: patch(non_private, "examples_at_a_time", lambda *_, **__: chunks.MOST),
        on=EVERY,
        engine="non-private",
    ),
    Row(
        mechanism="chunks grow with the weights",
        without=lambda: patch(chunks, "PASSES", 0),
        on={"mlp": BOTH, "embeddings": BOTH, "transformer": (64,)},
    ),
    Row(
        mechanism="channels_last",
        without=lambda: patch(engines, "memory_format", lambda *_: "contiguous"),
        on=CONVOLUTIONS,
    ),
    Row(
        mechanism="gradients of Flatten's inputs in channels_last",
        without=lambda: patch(layout, "_return_channels_last", lambda *_: None),
        on={"tutorial-cnn": BOTH, "tanh-cnn": BOTH},
    ),
    Row(
        mechanism="kernel rows one by one",
        without=lambda: patch(convolutions, "_by_rows", lambda _: False),
        on={"resnet-gn": (64,)},
    ),
    Row(
        mechanism="images of few channels unfolded along the width first",
        without=lambda: patch(convolutions, "_patches", _patches),
        on={"tutorial-cnn": BOTH, "tanh-cnn": BOTH, "resnet-gn": (64,)},
    ),
    Row(
        mechanism="strips of patches that stay in the cache",
        without=lambda: patch(convolutions, "_even", lambda examples, _: examples),
        on=CONVOLUTIONS,
    ),
    Row(
        mechanism="the largest convolution clipped strip by strip",
        without=lambda: patch(step, "_largest", lambda _: None),
        on=CONVOLUTIONS,
    ),
    Row(
        mechanism="GroupNorm from saved statistics",
        without=lambda: _rules({nn.GroupNorm.forward: _group_norm}),
        on={"resnet-gn": (64,)},
    ),
    Row(
        mechanism="GroupNorm's products some at a time",
        without=lambda: patch(layers, "PRODUCT_BYTES", 2**40),
        on={"resnet-gn": (64,)},
    ),
    Row(
        mechanism="LayerNorm from saved statistics, by products of matrices",
        without=lambda: _rules({nn.LayerNorm.forward: _layer_norm}),
        on={"transformer": (64,)},
    ),
    Row(
        mechanism="small parameters' gradients joined",
        without=lambda: patch(step, "SMALL", 0),
        on=EVERY,
    ),
    Row(
        mechanism="large parameters' sums kept in memory",
        without=lambda: patch(update, "LARGE", 2**40),
        on={"mlp": BOTH, "embeddings": BOTH, "transformer": (64,)},
    ),
    Row(
        mechanism="norms of one place by two norms",
        without=lambda: patch(OuterProducts, "norms", _formed_norms),
        on={"mlp": BOTH, "tutorial-cnn": BOTH, "embeddings": BOTH},
    ),
    Row(
        mechanism="Gram matrices where they are cheaper",
        without=lambda: _chosen(by_gram=False),
        on={"wide": BOTH},
    ),
    Row(
        mechanism="formed gradients where they are cheaper",
        without=lambda: _chosen(by_gram=True),
        on={"transformer": (64,)},
    ),
    Row(
        mechanism="formed gradients kept for the sum",
        without=lambda: patch(OuterProducts, "formed", _form),
        on={"transformer": (64,)},
    ),
    Row(
        mechanism="only rows that an example reads twice are added up",
        without=lambda: patch(Rows, "norms", _all_rows),
        on={"embeddings": BOTH, "transformer": (64,)},
    ),
    Row(
        mechanism="NumPy's sort of ids",
        without=lambda: patch(gradients, "np", SimpleNamespace(sort=_torch_sort)),
        on={"embeddings": BOTH, "transformer": (64,)},
    ),
    Row(
        mechanism="tables' sums by index_add",
        without=lambda: patch(Rows, "add_to", _dense),
        on={"embeddings": BOTH, "transformer": (64,)},
    ),
    Row(
        mechanism="tables' sums by index_add",
        without=lambda: patch(non_private, "_plain", lambda _: False),
        on={"embeddings": BOTH, "transformer": (64,)},
        engine="non-private",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = cli.Parser("python bench/mechanisms.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--only", default="", help="part of a mechanism's name")
    parser.add_argument("--model", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--short", action="store_true", help="one row: whether it runs")
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    if given.short:
        given.only, given.model, given.pairs = "joined", ["mlp"], 2
    print("| mechanism | engine, model, batch size | ratio |\n|---|---|---|")
    for row in ROWS:
        for model, sizes in row.on.items():
            for size in sizes if given.only in row.mechanism and model in given.model else ():
                found = _ratio(row, CASES[model], size, given.pairs)
                named = f"{row.mechanism} | `{row.engine}`, {model}, {size}"
                print(f"| {named} | {found} |", flush=True)
    return 0


def _ratio(row: Row, case: models.Case, batch_size: int, pairs: int) -> str:
    data = case.data(4 * batch_size + 64)

    def make(steps: int) -> step_timing.Arm:
        return models.arm(row.engine, case, batch_size, data, steps)

    blocks = step_timing.alternated(
        make,
        lambda steps: Without(row.without, lambda: make(steps)),
        device="cpu",
        pairs=pairs,
        clock=time.process_time,
    )
    ratios = [each.seconds_per_step / each.baseline_seconds_per_step for each in blocks]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
