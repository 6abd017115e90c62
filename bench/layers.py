"""python bench/layers.py: what a private step costs for models of many kinds of layers.

Each engine is alternated with the non-private step of the same model, on random data and one
thread, as `dpbench.timing` does for built-in models and datasets. Prints a table in Markdown. A
ratio is the median over pairs, between its quartiles. Memory is what steps add to a process.

    python bench/layers.py --model resnet-gn --engine bookkeeping opacus-functorch
    python bench/layers.py --clock cpu     # this process' processor time, for a busy machine
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench import cli, engines, models
from dpbench.datasets import Data
from dpbench.errors import BadInput
from dpbench.measurement import memory, step_timing
from dpbench.trial import NON_PRIVATE, Workload

ENGINES: tuple[str, ...] = ("bookkeeping",)
BATCH_SIZES = (64, 256)
PAIRS = 11
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
VOCABULARY = 10_000
FAILURES = (BadInput, RuntimeError, NotImplementedError, ValueError)
CLASSES = 10


class Block(nn.Module):
    """Two convolutions with GroupNorm beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(2))
        self.shortcut = (
            nn.Identity()
            if channels == width
            else nn.Conv2d(channels, width, 1, stride, bias=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norms[0](self.first(images)))
        return F.relu(self.norms[1](self.second(hidden)) + self.shortcut(images))


def resnet_gn() -> nn.Module:
    """Three stages of 16, 32 and 64 channels, two blocks each."""
    blocks = [
        Block(channels, width, stride)
        for before, width, first in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        for channels, stride in ((before, first), (width, 1))
    ]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),  # [B, 3, 32, 32] -> [B, 16, 32, 32]
        nn.GroupNorm(8, 16),
        nn.ReLU(),
        *blocks,  # -> [B, 64, 8, 8]
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


def mlp() -> nn.Module:
    """784-256-128-10."""
    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, CLASSES)
    )


class Mean(nn.Module):
    """Of an example's tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(1)


def embeddings() -> nn.Module:
    """The mean of the tokens' embeddings, and two layers."""
    return nn.Sequential(
        nn.Embedding(VOCABULARY, 64), Mean(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
    )


class Encoder(nn.Module):
    """A layer of a transformer, normalised first."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.packed, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        packed = self.packed(self.norms[0](tokens))
        apart = packed.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*apart)  # [B, heads, T, width / heads]
        tokens = tokens + self.joined(attended.transpose(1, 2).flatten(2))
        out: Tensor = tokens + self.narrow(F.relu(self.wide(self.norms[1](tokens))))
        return out


class Transformer(nn.Module):
    """Two layers on 64 tokens."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(64, width)
        self.layers = nn.Sequential(Encoder(), Encoder(), nn.LayerNorm(width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        hidden: Tensor = self.layers(self.tokens(ids) + self.places(places))
        logits: Tensor = self.head(hidden.mean(1))
        return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and the shape of its inputs.

    Attributes:
        make: The model.
        shape: Of one example.
        ids: Whether inputs are token ids.
        named: A built-in model, by which engines tell whether they support it.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    ids: bool = False
    named: str = "mlp"

    def data(self, examples: int) -> Data:
        """Random examples."""
        drawn = torch.Generator().manual_seed(0)
        size = (examples, *self.shape)
        inputs = (
            torch.randint(VOCABULARY, size, generator=drawn)
            if self.ids
            else torch.randn(size, generator=drawn)
        )
        targets = torch.randint(CLASSES, (examples,), generator=drawn)
        return Data(train=(inputs, targets), test=(inputs[:1], targets[:1]))


def _built_in(name: str) -> Case:
    """A model for MNIST's images."""
    make = partial(models.build, name, "mnist", seed=0, device="cpu")
    return Case(make=make, shape=(1, 28, 28), named=name)


CASES = {
    "tutorial-cnn": _built_in("tutorial-cnn"),
    "tanh-cnn": _built_in("tanh-cnn"),
    "mlp": Case(make=mlp, shape=(784,)),
    "resnet-gn": Case(make=resnet_gn, shape=(3, 32, 32)),
    "embeddings": Case(make=embeddings, shape=(128,), ids=True),
    "transformer": Case(make=Transformer, shape=(64,), ids=True),
}


def arm(name: str, case: Case, batch_size: int, data: Data, steps: int) -> step_timing.Arm:
    """The engine of that name on batches of the case, for up to so many steps."""
    torch.manual_seed(0)
    workload = Workload(dataset="mnist", model=case.named, batch_size=batch_size)
    engine = engines.build(
        engines.timing_trial(name, workload),
        case.make(),
        noise=torch.Generator().manual_seed(0),
        physical_batch_size=256,
    )
    return step_timing.EngineArm(engine, step_timing.batches(batch_size, steps, data))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = cli.Parser("python bench/layers.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--model", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--engine", nargs="+", choices=engines.names(), default=list(ENGINES))
    parser.add_argument("--batch-size", nargs="+", type=int, default=list(BATCH_SIZES))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument(
        "--short", action="store_true", help="one row of two pairs: whether it runs"
    )
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    if given.short:
        given.model, given.engine, given.batch_size = ["mlp"], ["bookkeeping"], [64]
        given.pairs = 2
    print("| model | engine | batch size | ratio | quartiles | non-private, ms | memory, MiB |")
    print("|---|---|---|---|---|---|---|")
    for name in given.model:
        case = CASES[name]
        for batch_size in given.batch_size:
            data = case.data(4 * batch_size + 64)
            for engine in given.engine:
                cells = _cells(engine, case, data, batch_size, given)
                held = _memory(engine, name, batch_size)
                print(f"| {name} | {engine} | {batch_size} | {cells} | {held} |", flush=True)
    return 0


def _cells(engine: str, case: Case, data: Data, batch_size: int, given: argparse.Namespace) -> str:
    make = partial(arm, case=case, batch_size=batch_size, data=data)
    try:
        blocks = step_timing.alternated(
            lambda steps: make(engine, steps=steps),
            lambda steps: make(NON_PRIVATE, steps=steps),
            device="cpu",
            pairs=given.pairs,
            clock=CLOCKS[given.clock],
        )
    except FAILURES as error:
        return f"{str(error).partition(chr(10))[0][:60]} | - | -"
    ratios = [each.seconds_per_step / each.baseline_seconds_per_step for each in blocks]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    plain = 1000 * statistics.median(each.baseline_seconds_per_step for each in blocks)
    return f"{median:.2f} | {low:.2f} to {high:.2f} | {plain:.2f}"


def _memory(engine: str, model: str, batch_size: int) -> str:
    """Of a fresh process."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool:
        try:
            held = pool.submit(_growth, engine, model, batch_size).result()
        except FAILURES:
            return "-"
    return "-" if held is None else f"{held / 2**20:.0f}"


def _growth(engine: str, model: str, batch_size: int) -> int | None:
    torch.set_num_threads(1)
    case = CASES[model]
    data = case.data(4 * batch_size + 64)
    small, whole = (
        arm(engine, case, size, data, memory.STEPS) for size in (memory.SMALL_BATCH, batch_size)
    )
    return memory.growth_of_steps(small, whole)


if __name__ == "__main__":
    sys.exit(main())
