"""Numbers that this machine has computed before, each a file in the user's cache. No torch."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any


def read(name: str, asked: Mapping[str, Any], computed_by: Sequence[str]) -> float | None:
    """The number that was kept, or None.

    Args:
        name: Of what was computed.
        asked: Of what; texts and numbers.
        computed_by: The packages and other versions of all that computes it.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(_path(name, asked, computed_by).read_text(encoding="ascii"))[name])
    return None


def keep(name: str, asked: Mapping[str, Any], computed_by: Sequence[str], found: float) -> None:
    """Writes the number as a whole file, if the cache can be written to."""
    path = _path(name, asked, computed_by)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({**asked, name: found}), encoding="ascii")
        temporary.replace(path)


def versions(*packages: str) -> tuple[str, ...]:
    """Of what `computed_by` names."""
    return tuple(version(package) for package in packages)


def _path(name: str, asked: Mapping[str, Any], computed_by: Sequence[str]) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    key = hashlib.sha256(json.dumps([asked, *computed_by]).encode()).hexdigest()
    return Path(cache) / "dpbench" / name / key  # pathlib's raises for a user without a home
