"""python -m bench.step_profile: where a private step's time goes beside the non-private one's.

For the models of `layers.py`, on one thread: the multiply-adds of both steps, and the time of each
kind of operation by PyTorch's profiler, in microseconds a step. A kind's time is that of its
operations themselves, without those that they call. The noise is timed by itself. `the rest` is
wall time that neither accounts for: Python, mostly.

    python -m bench.step_profile --model embeddings --batch-size 64
"""

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench import layers
from dpbench import cli, engines
from dpbench.engines.noise import Noise
from dpbench.measurement.step_timing import Arm
from dpbench.trial import NON_PRIVATE, Workload

STEPS = 30
NOISE = "noise"
KINDS = {
    "products and convolutions": (
        "mm",
        "bmm",
        "addmm",
        "mv",
        "addmv",
        "mkldnn_convolution",
        "convolution_backward",
    ),
    "norms of rows": ("linalg_vector_norm", "linalg_vecdot"),
    "rows of tables": ("index", "index_add", "index_select", "scatter_add", "embedding", "sort"),
    "copies and fills": ("copy", "fill", "zero", "cat", "contiguous", "clone"),
    "normalisation layers": ("native_group_norm", "native_layer_norm", "batch_norm"),
    "pooling": ("max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d", "mean"),
}
UNCOUNTED = {  # by PyTorch's counter; of the shapes of what they are given
    torch.ops.aten.addmm_: lambda _total, left, right, **_: 2 * math.prod(left) * right[1],
    torch.ops.aten.addmv_: lambda _total, matrix, _vector, **_: 2 * math.prod(matrix),
    torch.ops.aten.mv: lambda matrix, _vector, **_: 2 * math.prod(matrix),
}
OTHERS, REST = "other operations", "the rest"


def kind_of(operation: str) -> str:
    """Of an operation of PyTorch, such as `aten::addmm_`."""
    name = operation.removeprefix("aten::").removeprefix("_").rstrip("_")
    plain = name.removesuffix("_backward").removesuffix("_data")
    return next((kind for kind, names in KINDS.items() if name in names or plain in names), OTHERS)


def microseconds(arm: Arm, steps: int, noise: Callable[[], None] | None) -> dict[str, float]:
    """By kind, a step.

    Args:
        arm: What takes steps.
        steps: How many.
        noise: What draws the noise of a step, if any is drawn.
    """
    begun = time.perf_counter()
    arm.run(steps)
    wall = time.perf_counter() - begun
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        arm.run(steps)
    found: dict[str, float] = defaultdict(float)
    for each in seen.key_averages():
        if each.key.startswith("aten::"):
            found[kind_of(each.key)] += each.self_cpu_time_total / steps
    if noise is not None:
        begun = time.perf_counter()
        for _ in range(steps):
            noise()
        found[NOISE] = 1e6 * (time.perf_counter() - begun) / steps
    found[REST] = max(0.0, 1e6 * wall / steps - sum(found.values()))
    return found


def multiply_adds(arm: Arm) -> int:
    """Of one step's products and convolutions."""
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        arm.run(1)
    total: int = counter.get_total_flops()
    return total // 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table for each model and batch size; returns the exit code."""
    parser = cli.Parser("python -m bench.step_profile", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--model", nargs="+", choices=layers.CASES, default=list(layers.CASES))
    parser.add_argument("--engine", default="bookkeeping")
    parser.add_argument("--batch-size", nargs="+", type=int, default=list(layers.BATCH_SIZES))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--short", action="store_true", help="one table of two steps: whether it runs"
    )
    return cli.run(parser, arguments, _run)


def _run(given: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    if given.short:
        given.model, given.batch_size, given.steps = ["mlp"], [64], 2
    for model in given.model:
        for batch_size in given.batch_size:
            print(f"\n**{model}, batch size {batch_size}**\n")
            print("\n".join(_table(model, batch_size, given.engine, given.steps)), flush=True)
    return 0


def _table(model: str, batch_size: int, engine: str, steps: int) -> list[str]:
    case = layers.CASES[model]
    data = case.data(4 * batch_size + 64)
    trial = engines.timing_trial(
        engine, Workload(dataset="mnist", model=case.named, batch_size=batch_size)
    )
    noise = Noise(list(case.make().parameters()), trial, torch.Generator())
    found, counts = [], []
    for name, drawn in ((NON_PRIVATE, None), (engine, noise.draw)):
        arm = layers.arm(name, case, batch_size, data, steps)
        arm.run(3)
        found.append(microseconds(arm, steps, drawn))
        counts.append(f"{multiply_adds(arm) / 1e6:.1f}")
    plain, private = found
    whole, more = sum(plain.values()), sum(private.values())
    return [
        f"| | `{NON_PRIVATE}` | `{engine}` | more, in steps |",
        "|---|---|---|---|",
        f"| million multiply-adds | {' | '.join(counts)} | |",
        *[
            f"| {kind} | {plain[kind]:.0f} | {private[kind]:.0f} | "
            f"{(private[kind] - plain[kind]) / whole:+.2f} |"
            for kind in (*KINDS, NOISE, OTHERS, REST)
            if max(plain[kind], private[kind]) >= 1
        ],
        f"| all | {whole:.0f} | {more:.0f} | {(more - whole) / whole:+.2f} |",
    ]


if __name__ == "__main__":
    sys.exit(main())
