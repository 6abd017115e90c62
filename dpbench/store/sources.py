"""The sources of users' models and data that a store's rows were computed with."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from dpbench import strings
from dpbench.errors import StoreError
from dpbench.store import files
from dpbench.user_code import Code

FOLDER = "sources"


def write(root: Path, codes: Iterable[Code]) -> None:
    """Copies the sources to `sources/FILE-HASH`; what is there stays.

    The hash is that of the rows, with one of the very text where DPBENCH_VERSION stands for it.

    Raises:
        StoreError: The store's folder cannot be written to.
    """
    for code in codes:
        folder = root / FOLDER / _named(code)
        for path, text in code.sources:
            target = folder / path
            if target.exists():
                continue
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                files.write_bytes(target, text.encode())
            except OSError as error:
                raise StoreError(f"Cannot write {target}: {error.strerror}.") from error


def _named(code: Code) -> str:
    name = strings.file_name(f"{code.name.rpartition(':')[0]}-{code.hash}")
    if not code.by_version:
        return name
    return f"{name}-{hashlib.sha256(repr(code.sources).encode()).hexdigest()[:8]}"
