"""The devices and processors of this machine."""

import ctypes
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dpbench import console
from dpbench.errors import BadInput

_NAME = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,4})?")


def resolve(names: Sequence[str]) -> tuple[str, ...]:
    """`cpu`, `cuda:N` or `mps` for each of the names; `auto` is the first CUDA GPU, or the CPU.

    Raises:
        BadInput: A name is no device, or the device is missing, or it is named twice.
    """
    if list(names) == ["cpu"] or (list(names) == ["auto"] and _surely_no_gpu()):
        return ("cpu",)  # without torch, which takes the driver two seconds
    found: list[str] = []
    for name in names:
        resolved = _resolve(name)
        if resolved in found:
            raise BadInput(f"Expected each device once, not {resolved} twice; --jobs shares one.")
        found.append(resolved)
    return tuple(found)


def _resolve(name: str) -> str:
    if not _NAME.fullmatch(name):  # before torch, whose import takes seconds
        hint = " A GPU is cuda, or mps on a Mac." if name.lower() == "gpu" else ""
        raise BadInput(f"Expected device={name!r} to be auto, cpu, cuda, cuda:N or mps.{hint}")
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise BadInput(
                "Expected device='mps' to be there: this PyTorch sees no Metal GPU; use "
                "--device cpu."
            )
        return name
    index = int(name.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise BadInput(
            f"Expected device={name!r} to be one of the {torch.cuda.device_count()} CUDA devices "
            "that PyTorch sees; use --device cpu where there is none."
        )
    return f"cuda:{index}"


def _surely_no_gpu() -> bool:
    """Whether torch can see no GPU, known without importing it; False where only torch can tell.

    Its CUDA needs the library of the system's driver, which torch does not bring.
    """
    package = find_spec("torch")
    if sys.platform != "linux" or package is None or package.origin is None:
        return False
    try:
        built = Path(package.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    if not re.search(r"^hip\b.*= None$", built, re.MULTILINE):  # AMD's GPUs
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False


def planned(names: Sequence[str], listed: Path = Path("/dev")) -> tuple[str, ...]:
    """As `resolve`, but `auto` is decided without torch, by the GPUs that Linux lists.

    For a plan. A line on stderr says so where that is a GPU: whether PyTorch can use it is seen
    only by a run.

    Args:
        names: As typed.
        listed: Where Linux lists devices.

    Raises:
        BadInput: As `resolve`.
    """
    if list(names) != ["auto"]:
        return resolve(names)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not any(listed.glob("nvidia[0-9]*")):
        return ("cpu",)
    console.say(
        "There is a GPU in /dev: planned for cuda:0, as --device auto takes where PyTorch can use "
        "it (--device cpu plans without)."
    )
    return ("cuda:0",)


def cores() -> int:
    """Processors that this process may use."""
    import joblib

    return int(joblib.cpu_count())
