"""The flags of `dpbench sweep` that say how it runs: on this machine, or on a cluster."""

import argparse
from pathlib import Path

from dpbench.execution import stacks


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Where and how trials run on this machine, and where their results go."""
    group = parser.add_argument_group("the run")
    group.add_argument(
        "--device",
        nargs="+",
        default=["auto"],
        metavar="NAME",
        help="auto, cpu, cuda, mps, or several of cuda:0 cuda:1 ... to spread trials (default: "
        "auto)",
    )
    group.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="trials at a time on each device (default: a worker per core, or one per GPU)",
    )
    group.add_argument("--threads", type=int, default=1, metavar="N", help="of each (default: 1)")
    group.add_argument(
        "--stack",
        type=lambda text: int(text) if text.isascii() and text.isdigit() else text,
        default="auto",
        metavar="N",
        help="most trials of one seed and batch size that are trained at once as one model; auto: "
        f"{stacks.AUTO_ON_GPU} on a GPU, 1 on a CPU, where it saves nothing (default: auto)",
    )
    group.add_argument(
        "--physical-batch-size",
        type=int,
        metavar="N",
        help="most examples in one forward pass; bounds memory, not results (default: "
        "256 on a CPU, 2048 on a GPU)",
    )
    group.add_argument(
        "--trial-timeout",
        type=float,
        metavar="SECONDS",
        help="ends a trial that takes longer (default: as long as it takes)",
    )
    group.add_argument(
        "--retry-failed",
        action=argparse.BooleanOptionalAction,
        help="try all failed trials again, or none (default: those that crashed or found too "
        "little memory, but not those whose error will repeat)",
    )
    group.add_argument("--out", type=Path, metavar="DIR", help="default: results/DATASET-sweep")
    group.add_argument(
        "--no-timing", action="store_true", help="leave out the overhead measurement"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print the trials, their epsilons and the time"
    )


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Where a dask.distributed cluster is, that somebody has started."""
    flags = parser.add_argument_group("a cluster (needs the extra `dask`)")
    flags.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="tcp://HOST:PORT or tls://HOST:PORT of a dask scheduler, whose workers run the trials "
        "(default: none, but this machine)",
    )
    flags.add_argument(
        "--scheduler-file", type=Path, metavar="FILE", help="instead: as dask scheduler writes it"
    )
    for name in ("ca-file", "cert", "key"):
        flags.add_argument(
            f"--tls-{name}", type=Path, metavar="FILE", help="as dask's flag (default: none)"
        )
    flags.add_argument(
        "--gpu-share",
        type=float,
        metavar="X",
        help="with --device cuda: how much of the resource GPU a trial takes (default: 1)",
    )
    flags.add_argument(
        "--other-versions",
        action="store_true",
        help="allow workers with other versions of dpbench, torch or opacus",
    )
