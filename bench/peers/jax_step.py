"""python bench/peers/jax_step.py: a JAX private step beside dpbench's engines, step against step.

DP-SGD as JAX users write it: `vmap` of `grad`, clipped and summed, jitted whole. On one thread, on
batches of a fixed size, as jit wants it; the same non-private PyTorch step is the baseline of all.
Needs the extra `peers`: pip install -e ".[peers]".
"""

import os

# before JAX is imported: one thread, as every engine here
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

try:
    import jax
    import jax.numpy as jnp
    from jax import lax
except ImportError:
    print(
        'python bench/peers/jax_step.py: Expected jax; pip install -e ".[peers]".', file=sys.stderr
    )
    sys.exit(2)

from dpbench import cli, models, strings
from dpbench.datasets import Data, loading
from dpbench.measurement import environment, step_timing
from dpbench.trial import Workload

NOISE_MULTIPLIER = MAX_GRAD_NORM = 1.0
LEARNING_RATE = 1e-3
STEPS = 10  # of a block
PHYSICAL_BATCH_SIZE = 256  # as the sweep's
ENGINES: tuple[str, ...] = ("fused", "bookkeeping", "opacus-hooks", "opacus-functorch")


def weights() -> list[Any]:
    """Those of the PyTorch model, in its order."""
    model = models.build("tutorial-cnn", "mnist", seed=0, device="cpu")
    return [jnp.asarray(each.detach().numpy()) for each in model.parameters()]


def logits(w: list[Any], image: Any) -> Any:
    """One image [1, 28, 28] -> [10]."""
    x = _conv(image[None], w[0], w[1], 2, 3)
    x = _conv(_pool(jax.nn.relu(x)), w[2], w[3], 2, 0)
    x = _pool(jax.nn.relu(x)).reshape(-1)  # [512]
    return w[6] @ jax.nn.relu(w[4] @ x + w[5]) + w[7]


def _conv(x: Any, kernel: Any, bias: Any, stride: int, padding: int) -> Any:
    out = lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2)
    return out + bias[None, :, None, None]


def _pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "VALID")


def loss(w: list[Any], image: Any, label: Any) -> Any:
    return -jax.nn.log_softmax(logits(w, image))[label]


def clipped_sum(w: list[Any], images: Any, labels: Any) -> list[Any]:
    """The sum over the batch of gradients of norm MAX_GRAD_NORM at most."""
    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(w, images, labels)
    squares = sum((g.reshape(len(labels), -1) ** 2).sum(1) for g in gradients)
    factors = jnp.minimum(1.0, MAX_GRAD_NORM / (jnp.sqrt(squares) + 1e-6))  # [B]
    return [jnp.tensordot(factors, g, 1) for g in gradients]


def step(w: list[Any], images: Any, labels: Any, key: Any) -> list[Any]:
    sums = clipped_sum(w, images, labels)
    keys = jax.random.split(key, len(w))
    spread = NOISE_MULTIPLIER * MAX_GRAD_NORM
    return [
        old - LEARNING_RATE * (each + spread * jax.random.normal(k, old.shape)) / len(labels)
        for old, each, k in zip(w, sums, keys, strict=True)
    ]


jitted_step = jax.jit(step)


class JaxArm:
    """Steps on one batch that lies in memory already."""

    def __init__(self, batch_size: int, dataset: Data) -> None:
        self._images = jnp.asarray(dataset.prepared(dataset.train[0][:batch_size]).numpy())
        self._labels = jnp.asarray(dataset.train[1][:batch_size].numpy())
        self._weights, self._key = weights(), jax.random.key(0)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._key, key = jax.random.split(self._key)
            self._weights = jitted_step(self._weights, self._images, self._labels, key)
        jax.block_until_ready(self._weights)


def differs_from_torch(dataset: Data) -> float:
    """Largest relative difference of 32 examples' clipped sum from that of `torch.func`."""
    images, labels = dataset.prepared(dataset.train[0][:32]), dataset.train[1][:32]
    model = models.build("tutorial-cnn", "mnist", seed=0, device="cpu")
    parameters = dict(model.named_parameters())

    def one(w: Any, image: Any, label: Any) -> Any:
        out = torch.func.functional_call(model, w, (image[None],))
        return torch.nn.functional.cross_entropy(out, label[None])

    each = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(parameters, images, labels)
    flat = torch.cat([g.reshape(32, -1) for g in each.values()], dim=1)
    theirs = (flat * (MAX_GRAD_NORM / (flat.norm(dim=1) + 1e-6)).clamp(max=1)[:, None]).sum(0)
    sums = clipped_sum(weights(), jnp.asarray(images.numpy()), jnp.asarray(labels.numpy()))
    ours = torch.tensor(jnp.concatenate([each.reshape(-1) for each in sums]).tolist())
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.Parser("python bench/peers/jax_step.py", __doc__, "0 all well; 2 bad input")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 256, 1024], metavar="N")
    parser.add_argument("--pairs", type=int, default=step_timing.PAIRS, metavar="N")
    parser.add_argument("--short", action="store_true", help="one pair: whether it runs")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return cli.run(parser, arguments, _time)


def _time(given: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    if given.short:
        given.batch_size, given.pairs = [64], 1
    digits = loading.load("digits", Path("unused"), "cpu")
    difference = differs_from_torch(digits)
    assert difference < 1e-5, f"JAX's clipped sums differ by {difference}"
    rows = []
    for batch_size in given.batch_size:
        workload = Workload(dataset="digits", model="tutorial-cnn", batch_size=batch_size)
        baseline = step_timing.arm("non-private", workload, digits, STEPS)
        arms: dict[str, step_timing.Arm] = {"jax vmap(grad)": JaxArm(batch_size, digits)}
        arms |= {
            name: step_timing.arm(
                name, workload, digits, STEPS, physical_batch_size=PHYSICAL_BATCH_SIZE
            )
            for name in (ENGINES[:1] if given.short else ENGINES)
        }
        for name, arm in arms.items():
            found = sorted(ratios(arm, baseline, given.pairs))
            middle = statistics.median(found)
            rows.append(
                {"step": name, "batch_size": batch_size, "ratio": middle}
                | {"low": found[0], "high": found[-1], "pairs": given.pairs}
            )
    machine = environment.machine() | {"jax_version": jax.__version__}
    if given.json:
        print(strings.json_text(dataset="digits", threads=1, machine=machine, rows=rows))
    else:
        print(f"digits, one thread, jax {jax.__version__}, torch {torch.__version__}")
        header = ("step", "batch", "over non-private", "range")
        print(strings.table(header, map(_cells, rows)))
    return 0


def _cells(row: dict[str, Any]) -> list[str]:
    spread = f"{row['low']:.2f} to {row['high']:.2f}"
    return [row["step"], str(row["batch_size"]), f"{row['ratio']:.2f}", spread]


def ratios(arm: step_timing.Arm, baseline: step_timing.Arm, pairs: int) -> list[float]:
    """The arm's time over the baseline's, alternated; a first pair warms both up."""
    found = []
    for pair in range(pairs + 1):
        seconds = {}
        for each in (arm, baseline) if pair % 2 else (baseline, arm):
            start = time.perf_counter()
            each.run(STEPS)
            seconds[each] = time.perf_counter() - start
        found.append(seconds[arm] / seconds[baseline])
    return found[1:]


if __name__ == "__main__":
    sys.exit(main())
