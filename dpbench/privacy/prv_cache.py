"""Opacus' epsilons that this machine has computed before, in the user's cache.

Importing Opacus and what it needs takes each worker 1.5 s of its 4 s from start to first result.
"""

import hashlib
import json
import os
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from dpbench.privacy import prv


def epsilon(
    *, noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> tuple[float | None, str | None]:
    """As `prv.epsilon`, by Opacus where it has not been computed by the same versions before."""
    asked = {
        "noise_multiplier": noise_multiplier,
        "sample_rate": sample_rate,
        "steps": steps,
        "delta": delta,
    }
    key = hashlib.sha256(json.dumps([asked, prv.EPSILON_ERROR, *_versions()]).encode()).hexdigest()
    path = _folder() / key
    with suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text(encoding="ascii"))["epsilon_prv"]), None
    found, note = prv.epsilon(
        noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta
    )
    if found is not None and note is None:
        _keep(path, json.dumps(asked | {"epsilon_prv": found}))
    return found, note


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(cache) / "dpbench" / "prv"  # pathlib's raises for a user without a home


@cache
def _versions() -> tuple[str, ...]:
    """Of all that computes it."""
    return tuple(version(package) for package in ("opacus", "numpy", "scipy"))


def _keep(path: Path, text: str) -> None:
    """Writes the file whole, if the cache can be written to."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="ascii")
        temporary.replace(path)
