"""Where and when a row is measured: versions, hardware, commit. No host names."""

import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from dpbench import __version__
from dpbench.observations import TIMED_UNDER, Environment

_PACKAGE = Path(__file__).parents[1]


def describe(
    *,
    implementation: str,
    device: str,
    threads: int,
    memory_format: str,
    physical_batch_size: int | None,
    workers_beside: int,
) -> Environment:
    """This process' environment now, with the knobs that the caller has set."""
    return Environment(
        dpbench_version=__version__,
        dpbench_commit=commit(),
        python_version=platform.python_version(),
        torch_version=_torch_version(),
        opacus_version=version("opacus"),
        implementation=implementation,
        device=device,
        device_name=device_name(device),
        threads=threads,
        memory_format=memory_format,
        physical_batch_size=physical_batch_size,
        workers_beside=workers_beside,
        started_at=datetime.now(UTC),
    )


def conditions(
    *, device: str, threads: int, physical_batch_size: int | None
) -> dict[str, str | int | None]:
    """What a timing here is recorded with, of each of TIMED_UNDER; on a CPU without torch."""
    found: dict[str, str | int | None] = {
        "device": device,
        "device_name": device_name(device),
        "threads": threads,
        "physical_batch_size": physical_batch_size,
        "dpbench_version": __version__,
        "torch_version": _torch_version(),
        "opacus_version": version("opacus"),
    }
    assert set(found) == set(TIMED_UNDER)
    return found


def machine(device: str = "cpu") -> dict[str, str | None]:
    """Device, processor, versions, commit and time, for a figure that no row holds."""
    return {
        "device_name": device_name(device),
        "processor": device_name("cpu"),
        "python_version": platform.python_version(),
        "torch_version": _torch_version(),
        "opacus_version": version("opacus"),
        "dpbench_commit": commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def commit() -> str | None:
    """The commit of the checkout that this package is a part of, `-dirty` if its files differ.

    None where the package is installed, or where there is no git.
    """
    if shutil.which("git") is None or _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + ("-dirty" if _git("status", "--porcelain", "--", ".") else "")


def _git(*arguments: str) -> str | None:
    """What git says in the package's folder; None where it fails."""
    done = subprocess.run(  # noqa: S603  # fixed arguments
        ["git", *arguments],  # noqa: S607  # whichever git the user has
        cwd=_PACKAGE,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def _torch_version() -> str:
    """With the build tag that the package's metadata lacks; without importing it where possible."""
    package = find_spec("torch")
    if "torch" not in sys.modules and package is not None and package.origin is not None:
        with suppress(OSError):
            source = Path(package.origin).with_name("version.py").read_text(encoding="utf-8")
            if named := re.search(r"^__version__ = ['\"](\S+)['\"]", source, re.MULTILINE):
                return named[1]
    import torch

    return str(torch.__version__)


@cache
def device_name(device: str) -> str:
    """Model of the processor or GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return processor_name(text) or platform.processor() or platform.machine()


def processor_name(cpuinfo: str) -> str | None:
    """The first processor's name in Linux' /proc/cpuinfo; None where it says nothing of it.

    Virtual machines often name a brand alone, as `AMD EPYC`. Numbers that tell models apart are
    then added: family, model and stepping, or on ARM implementer, variant, part and revision.
    """
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip():
            fields.setdefault(name.strip().lower(), value.strip())
    name = fields.get("model name", "")
    if tells_the_model(name):
        return name
    numbers = [f"{short} {fields[key]}" for short, key in _NUMBERS if key in fields]
    name = name or (platform.machine() if numbers else "")
    return f"{name} ({', '.join(numbers)})" if numbers else name or None


_NUMBERS = (
    ("family", "cpu family"),
    ("model", "model"),
    ("stepping", "stepping"),
    ("implementer", "cpu implementer"),
    ("variant", "cpu variant"),
    ("part", "cpu part"),
    ("revision", "cpu revision"),
)
_ADDED = re.compile(r"\((family|implementer) \S+, .*\)$")
# Numbers that no model number is: clock rates, counts of cores, versions of an emulator
_NO_MODEL = re.compile(r"[\d.]+\s*[GM]Hz|\d+-core|version.*|\S*xx\b", re.IGNORECASE)


def tells_the_model(name: str) -> bool:
    """Whether a processor's name tells its model, by itself or by numbers that were added to it.

    It does where one of its words has three digits, as `7763`, `i7-9750H` and `9V74` have.
    """
    words = _NO_MODEL.sub(" ", name).split()
    numbered = any(sum(each.isdigit() for each in word) >= 3 for word in words)
    return numbered or bool(_ADDED.search(name))
