"""Who asked for a store's rows: each command that ran, and its sweep file, in `sweeps/`.

A record says what the user typed and no more: no folder of the machine that was not typed.
"""

import hashlib
import json
import logging
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpbench import __version__
from dpbench.store import files
from dpbench.trial import BadInput

_FOLDER = "sweeps"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep, or a timing, as it was asked for.

    Attributes:
        command: As typed.
        file_name: Of the sweep file, as typed; None without one.
        file_text: What the file said.
        dpbench_version: That ran it.
        started_at: Of its last run, in ISO 8601 (UTC).
        trial_ids: All that it asks for; none of a timing.
    """

    command: str
    file_name: str | None
    file_text: str | None
    dpbench_version: str
    started_at: str
    trial_ids: tuple[str, ...]


def asked(
    module: str,
    typed: Sequence[str],
    file: Path | None = None,
    file_text: str = "",
    trial_ids: Sequence[str] = (),
) -> Sweep:
    """What the user asks for now.

    Args:
        module: Of `python -m`.
        typed: The arguments after it.
        file: The sweep file among them.
        file_text: What it said when the trials were read off it.
        trial_ids: What it comes to.
    """
    return Sweep(
        command=shlex.join(["python", "-m", module, *typed]),
        file_name=None if file is None else str(file),
        file_text=None if file is None else file_text,
        dpbench_version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        trial_ids=tuple(trial_ids),
    )


def write(root: Path, sweep: Sweep) -> None:
    """Adds the record to the store, in place of that of the same command and file.

    Raises:
        BadInput: The store's folder cannot be written to.
    """
    asked = json.dumps([sweep.command, sweep.file_text])
    path = root / _FOLDER / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, json.dumps(asdict(sweep), indent=1).encode())
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from error


def read(root: Path) -> list[Sweep]:
    """The store's records, the oldest first; those of an older dpbench are none.

    A damaged record is passed over with a warning: no row depends on it.
    """
    folder = root / _FOLDER
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []
    except OSError as error:
        _log.warning("Cannot read %s: %s; its commands are left out.", folder, error.strerror)
        return []
    found = []
    for path in paths:
        try:
            found.append(_sweep(json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            _log.warning("%s is damaged (%s): its command is left out.", path, error)
    return sorted(found, key=lambda sweep: sweep.started_at)


def _sweep(content: Any) -> Sweep:
    """The record, without what a newer dpbench has added.

    Raises:
        KeyError, TypeError: It is none.
    """
    known = {field.name: content[field.name] for field in fields(Sweep)}
    texts = [known["command"], known["dpbench_version"], known["started_at"], *known["trial_ids"]]
    texts += [known[name] for name in ("file_name", "file_text") if known[name] is not None]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("it holds what is no text")
    return Sweep(**known | {"trial_ids": tuple(known["trial_ids"])})
