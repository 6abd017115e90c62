"""Who asked for a store's rows, and for which answers: each command that ran, in `sweeps/`.

A record says what the user typed and no more: no folder of the machine that was not typed.
"""

import hashlib
import json
import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpbench import __version__
from dpbench.errors import StoreError
from dpbench.privacy.budgets import ANSWER_AT
from dpbench.store import files

_FOLDER = "sweeps"
_LISTS = ("trial_ids", "confirming", "tuned_in", "dropped")  # of texts

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
        trial_ids: All of its grid; none of a timing.
        answer_at: Epsilons that it asks to be answered for. Empty in records of a dpbench that
            answered for 1, 3 and 8 alone, and of a timing.
        confirming: Ids of the trials that ran the settings chosen from the grid again, on seeds
            that no trial of the grid has.
        tuned_in: Stores, as typed, in which settings were tried on the same data before.
        dropped: Of the trials above, those that were removed from the store since.
        choose_by: The metric that settings are chosen by; None for the usual one.
    """

    command: str
    file_name: str | None
    file_text: str | None
    dpbench_version: str
    started_at: str
    trial_ids: tuple[str, ...]
    answer_at: tuple[float, ...] = ()
    confirming: tuple[str, ...] = ()
    tuned_in: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    choose_by: str | None = None


def choose_by(sweeps: Sequence[Sweep]) -> str | None:
    """The metric that the latest sweep with one chooses by; None where none has."""
    return next((each.choose_by for each in reversed(sweeps) if each.choose_by), None)


def dropped(sweeps: Iterable[Sweep]) -> frozenset[str]:
    """Ids of the trials that were removed from the store, and that no later sweep asks for."""
    waited_for: set[str] = set()
    found: set[str] = set()
    for sweep in sweeps:
        gone = set(sweep.dropped)
        waited_for |= {*sweep.trial_ids, *sweep.confirming} - gone
        found |= gone
    return frozenset(found - waited_for)


def epsilons(sweeps: Iterable[Sweep]) -> tuple[float, ...]:
    """Those that any of the sweeps asks to be answered for, rising; 1, 3 and 8 where none says."""
    grids = [sweep for sweep in sweeps if sweep.trial_ids]
    asked = {epsilon for sweep in grids for epsilon in sweep.answer_at or ANSWER_AT}
    return tuple(sorted(asked or ANSWER_AT))


def confirmations(sweeps: Iterable[Sweep]) -> frozenset[str]:
    """Ids of the trials that confirm a choice, and that no grid of these sweeps holds."""
    every = list(sweeps)
    chosen_by = {each for sweep in every for each in sweep.trial_ids}
    return frozenset(each for sweep in every for each in sweep.confirming) - chosen_by


def asked(
    module: str,
    typed: Sequence[str],
    file: Path | None = None,
    file_text: str = "",
    trial_ids: Sequence[str] = (),
    *,
    answer_at: Sequence[float] = (),
    tuned_in: Sequence[str] = (),
    choose_by: str | None = None,
) -> Sweep:
    """What the user asks for now.

    Args:
        module: Of `python -m`.
        typed: The arguments after it.
        file: The sweep file among them.
        file_text: What it said when the trials were read off it.
        trial_ids: What it comes to.
        answer_at: As `Sweep` has it.
        tuned_in: As `Sweep` has it.
        choose_by: As `Sweep` has it.
    """
    return Sweep(
        command=shlex.join(["python", "-m", module, *typed]),
        file_name=None if file is None else str(file),
        file_text=None if file is None else file_text,
        dpbench_version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        trial_ids=tuple(trial_ids),
        answer_at=tuple(answer_at),
        tuned_in=tuple(tuned_in),
        choose_by=choose_by,
    )


def write(root: Path, sweep: Sweep) -> Sweep:
    """Adds the record to the store, in place of that of the same command and file; returns it.

    It keeps what that has confirmed, so that a trial which once confirmed a choice never becomes
    one to choose by.

    Raises:
        StoreError: The store's folder cannot be written to.
    """
    before = [old.confirming for old in read(root) if _key(old) == _key(sweep)]
    confirming = dict.fromkeys(each for ids in (*before, sweep.confirming) for each in ids)
    sweep = replace(sweep, confirming=tuple(confirming))
    path = _path(root, sweep)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, json.dumps(asdict(sweep), indent=1).encode())
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}.") from error
    return sweep


def mark_dropped(root: Path, trial_ids: Iterable[str]) -> None:
    """Writes into the records of the store that these trials were removed from it.

    Raises:
        OSError: The store's folder cannot be written to.
    """
    gone = set(trial_ids)
    for sweep in read(root):
        held = gone & {*sweep.trial_ids, *sweep.confirming}
        if held - set(sweep.dropped):
            named = tuple(sorted(held | set(sweep.dropped)))
            content = json.dumps(asdict(replace(sweep, dropped=named)), indent=1)
            files.write_bytes(_path(root, sweep), content.encode())


def _path(root: Path, sweep: Sweep) -> Path:
    return root / _FOLDER / f"{hashlib.sha256(_key(sweep).encode()).hexdigest()[:16]}.json"


def _key(sweep: Sweep) -> str:
    """Equal for runs of one command with one file."""
    return json.dumps([sweep.command, sweep.file_text])


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
    """The record: without what a newer dpbench has added, with defaults for what an older lacks.

    Raises:
        KeyError, TypeError: It is none.
    """
    known = {
        field.name: content[field.name]
        for field in fields(Sweep)
        if field.default is MISSING or field.name in content
    }
    lists = {name: known.get(name, ()) for name in _LISTS}
    texts = [known["command"], known["dpbench_version"], known["started_at"]]
    texts += [each for listed in lists.values() for each in listed]
    texts += [known[name] for name in ("file_name", "file_text") if known[name] is not None]
    texts += [known["choose_by"]] if known.get("choose_by") is not None else []
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("it holds what is no text")
    lists["answer_at"] = known.get("answer_at", ())
    if not all(type(each) in (int, float) and each > 0 for each in lists["answer_at"]):
        raise TypeError("it holds an epsilon that is no positive number")
    return Sweep(**known | {name: tuple(listed) for name, listed in lists.items()})
