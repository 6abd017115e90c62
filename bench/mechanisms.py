"""python bench/mechanisms.py: what each mechanism gives that makes training faster.

For each one, the time with the mechanism over the time without it. `sgd` and `passes` are timed in
one process, alternated block by block. `malloc` and `pages` change a whole process, so each number
is one epoch of MNIST in a fresh process, alternated process by process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from dpbench.datasets import loading
from dpbench.engines import backward
from dpbench.measurement import step_timing
from dpbench.training import malloc

LARGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
BLOCK_SECONDS = 0.15


class TorchSgd:
    """PyTorch's optimizer behind the interface of `engines.sgd.Sgd`."""

    def __init__(self, parameters: list[torch.nn.Parameter], rate: float) -> None:
        self._parameters = parameters
        self._optimizer = torch.optim.SGD(parameters, lr=rate, foreach=True)

    def step(self, gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()


def engine_of(name: str, batch_size: int, dataset: loading.Dataset) -> Any:
    noise = torch.Generator().manual_seed(0)
    return step_timing.build(name, batch_size, dataset, noise, None)  # type: ignore[arg-type]


def with_torch_sgd(engine: Any) -> Any:
    parameters = [each for each in engine._parameters if each.requires_grad]
    engine._sgd = TorchSgd(parameters, 1e-3)
    return engine


def by_autograd(engine: Any) -> Any:
    if hasattr(engine, "_passes"):
        engine._passes = backward.ByAutograd(_model(engine._passes))
    else:
        engine._by_hand = None
    return engine


def _model(passes: Any) -> torch.nn.Module:
    return torch.nn.Sequential(*passes._layers)


def paired(one: Callable[[], object], other: Callable[[], object], pairs: int) -> dict[str, float]:
    """The median of the ratios one / other, with their range; blocks of a fixed number of calls."""
    for each in (one, other):
        for _ in range(3):
            each()
    start = time.perf_counter()
    other()
    calls = max(3, round(BLOCK_SECONDS / (time.perf_counter() - start)))
    ratios = []
    for pair in range(pairs):
        seconds = {}
        for call in (one, other) if pair % 2 else (other, one):
            start = time.perf_counter()
            for _ in range(calls):
                call()
            seconds[call] = time.perf_counter() - start
        ratios.append(seconds[one] / seconds[other])
    return _summary(ratios)


def _summary(ratios: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(ratios, n=4)
    return {"ratio": statistics.median(ratios), "low": low, "high": high, "pairs": len(ratios)}


def in_one_process(what: str, digits: loading.Dataset, pairs: int) -> Iterator[dict[str, Any]]:
    change = with_torch_sgd if what == "sgd" else by_autograd
    names = (
        ["fused", "bookkeeping", "non-private"] if what == "sgd" else ["bookkeeping", "non-private"]
    )
    with malloc.kept():
        for name in names:
            for batch_size in (64, 256):
                ((images, labels), *_) = step_timing.batches(batch_size, 1, digits)
                own = engine_of(name, batch_size, digits)
                plain = change(engine_of(name, batch_size, digits))
                seen = paired(
                    lambda own=own: own.step(images, labels),
                    lambda plain=plain: plain.step(images, labels),
                    pairs,
                )
                yield {"what": what, "engine": name, "batch_size": batch_size, **seen}


def epoch_seconds(engine: str, batch_size: int, root: Path, kept: bool) -> float:
    """Of one epoch of MNIST in this process."""
    from dpbench.training import loop

    torch.set_num_threads(1)
    dataset = loading.load("mnist", root, "cpu")
    trial = step_timing.trial_of(engine, batch_size, dataset)  # type: ignore[arg-type]
    patch = nullcontext() if kept else mock.patch.object(malloc, "kept", nullcontext)
    with patch:
        (seen,) = loop.train(trial, dataset, physical_batch_size=256)
    assert seen.train_seconds is not None
    return seen.train_seconds


def in_processes(what: str, root: Path, pairs: int) -> Iterator[dict[str, Any]]:
    for engine, batch_size in (("fused", 256), ("bookkeeping", 64), ("opacus-hooks", 256)):
        ratios = []
        for pair in range(pairs):
            seconds = {}
            for on in (True, False) if pair % 2 else (False, True):
                asked = [engine, str(batch_size), str(root), str(int(on or what == "pages"))]
                environment = os.environ | (LARGE_PAGES if on or what == "malloc" else {})
                done = subprocess.run(
                    [sys.executable, __file__, "--epoch", *asked],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                seconds[on] = float(done.stdout)
            ratios.append(seconds[True] / seconds[False])
        yield {"what": what, "engine": engine, "batch_size": batch_size, **_summary(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", nargs="+", default=["sgd", "passes", "malloc", "pages"])
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--processes", type=int, default=7, help="pairs of processes")
    parser.add_argument(
        "--data-root", type=Path, default=Path(os.environ.get("DPBENCH_DATA", "data"))
    )
    parser.add_argument("--epoch", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.epoch:
        engine, batch_size, root, kept = given.epoch
        print(epoch_seconds(engine, int(batch_size), Path(root), kept == "1"))
        return
    torch.set_num_threads(1)
    for what in given.what:
        if what in ("malloc", "pages"):
            rows = in_processes(what, given.data_root, given.processes)
        else:
            rows = in_one_process(what, loading.load("digits", given.data_root, "cpu"), given.pairs)
        for row in rows:
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
