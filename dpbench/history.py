"""Who asked for a store's rows: each command that ran, and its sweep file, in `sweeps/`.

A record says what the user typed and no more: no folder of the machine that was not typed.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dpbench import __version__
from dpbench.trial import BadInput

_FOLDER = "sweeps"


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
    module: str, typed: Sequence[str], file: Path | None = None, trial_ids: Sequence[str] = ()
) -> Sweep:
    """What the user asks for now.

    Args:
        module: Of `python -m`.
        typed: The arguments after it.
        file: The sweep file among them.
        trial_ids: What it comes to.
    """
    return Sweep(
        command=shlex.join(["python", "-m", module, *typed]),
        file_name=None if file is None else str(file),
        file_text=None if file is None else file.read_text(encoding="utf-8"),
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
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(sweep), indent=1), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from error


def read(root: Path) -> list[Sweep]:
    """The store's records, the oldest first; empty for one that an older dpbench has written.

    Raises:
        BadInput: A record is damaged.
    """
    found = []
    for path in sorted((root / _FOLDER).glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found.append(Sweep(**content | {"trial_ids": tuple(content["trial_ids"])}))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadInput(f"{path} is damaged; move it away: only the report needs it.") from error
    return sorted(found, key=lambda sweep: sweep.started_at)
