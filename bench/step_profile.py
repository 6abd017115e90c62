"""python bench/step_profile.py: where a private step's time goes beside the non-private one's.

For the models of `layers.py`, on one thread: the multiply-adds of both steps, and the time of each
kind of operation by PyTorch's profiler, in microseconds a step. A kind's time is that of its
operations themselves, without those that they call. What is compiled by numba, and Python, are in
`the rest`: wall time that no operation accounts for.

    python bench/step_profile.py --model embeddings --batch-size 64
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

import layers
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dpbench import cli
from dpbench.measurement.step_timing import Arm
from dpbench.trial import NON_PRIVATE

STEPS = 30
PRODUCTS = "products and convolutions"
KINDS = {
    PRODUCTS: ("mm", "bmm", "addmm", "mv", "addmv", "mkldnn_convolution", "convolution_backward"),
    "norms of rows": ("linalg_vector_norm", "linalg_vecdot"),
    "noise": ("normal",),
    "rows of tables": ("index", "index_add", "index_select", "scatter_add", "embedding", "sort"),
    "copies and fills": ("copy", "fill", "zero", "cat", "contiguous", "clone"),
    "normalisation layers": ("native_group_norm", "native_layer_norm", "batch_norm"),
    "pooling": ("max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d", "mean"),
}
ELEMENTWISE, REST = "other operations", "the rest"


def kind_of(operation: str) -> str:
    """Of an operation of PyTorch, such as `aten::addmm_`."""
    name = operation.removeprefix("aten::").removeprefix("_").rstrip("_")
    plain = name.removesuffix("_backward").removesuffix("_data")
    return next(
        (kind for kind, names in KINDS.items() if name in names or plain in names), ELEMENTWISE
    )


def microseconds(arm: Arm, steps: int) -> Counter[str]:
    """By kind, a step."""
    begun = time.perf_counter()
    arm.run(steps)
    wall = time.perf_counter() - begun
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        arm.run(steps)
    found: Counter[str] = Counter()
    for each in seen.key_averages():
        if each.key.startswith("aten::"):
            found[kind_of(each.key)] += each.self_cpu_time_total / steps
    found[REST] = max(0.0, 1e6 * wall / steps - found.total())
    return found


def multiply_adds(arm: Arm) -> int:
    """Of one step's products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        arm.run(1)
    return counter.get_total_flops() // 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table for each model and batch size; returns the exit code."""
    parser = cli.Parser("python bench/step_profile.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--model", nargs="+", choices=layers.CASES, default=list(layers.CASES))
    parser.add_argument("--engine", default="bookkeeping")
    parser.add_argument("--batch-size", nargs="+", type=int, default=list(layers.BATCH_SIZES))
    parser.add_argument("--steps", type=int, default=STEPS)
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    for model in given.model:
        for batch_size in given.batch_size:
            print(f"\n**{model}, batch size {batch_size}**\n")
            print("\n".join(_table(_made(model, batch_size, given.steps), given)), flush=True)
    return 0


def _made(model: str, batch_size: int, steps: int) -> Callable[[str], Arm]:
    case = layers.CASES[model]
    data = case.data(4 * batch_size + 64)
    return lambda engine: layers.arm(engine, case, batch_size, data, steps)


def _table(make: Callable[[str], Arm], given: argparse.Namespace) -> list[str]:
    arms = {name: make(name) for name in (NON_PRIVATE, given.engine)}
    for arm in arms.values():
        arm.run(3)
    plain, private = (microseconds(arm, given.steps) for arm in arms.values())
    counts = [multiply_adds(arm) / 1e6 for arm in arms.values()]
    kinds = [*KINDS, ELEMENTWISE, REST]
    return [
        f"| | `{NON_PRIVATE}` | `{given.engine}` | more, in steps |",
        "|---|---|---|---|",
        f"| million multiply-adds | {counts[0]:.1f} | {counts[1]:.1f} | |",
        *[
            f"| {kind} | {plain[kind]:.0f} | {private[kind]:.0f} | "
            f"{(private[kind] - plain[kind]) / plain.total():+.2f} |"
            for kind in kinds
            if max(plain[kind], private[kind]) >= 1
        ],
        f"| all | {plain.total():.0f} | {private.total():.0f} | "
        f"{(private.total() - plain.total()) / plain.total():+.2f} |",
    ]


if __name__ == "__main__":
    sys.exit(main())
