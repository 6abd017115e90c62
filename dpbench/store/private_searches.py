"""The draws of private searches: how many runs, and which, drawn once and for all.

Each search of a store is a file in `private_searches/`. It is written before anything runs and
never replaced by another draw: drawing until one likes the draw has no guarantee. Whoever reads it
knows what the guarantee needs secret.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpbench.errors import StoreError
from dpbench.store import files, writer

_FOLDER = "private_searches"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateSearch:
    """A search of which only the best run is published.

    Attributes:
        asked: What was asked for. Equal requests are one search.
        distribution: Of the number of runs.
        mean: Of the number of runs.
        sampling: How batches are drawn.
        delta: Of (epsilon, delta)-DP.
        epsilon: Of the whole search.
        epsilon_of_run: The most of a run that may be drawn.
        noises: That were solved for, each as batch size, epochs and noise multiplier; empty where
            the noise is part of a setting.
        noise_multipliers: The least and the most that a run may have.
        schedules: In words, the batches that a run may have.
        examples: N, that each run trains on.
        held_out: Examples that runs are scored on.
        score_noise: Standard deviation of the noise on the number of right answers on these; None
            where scores are exact, and those examples are not covered.
        points: Of each run, a point of the unit cube, which is a setting.
        seeds: Of each run.
        score_draws: Of each run, a standard normal number.
        engines: Of each run; empty until they are known.
        trial_ids: Of each run; empty until they are known.
        ended: Whether its best run was named: from then on no run is trained again.
    """

    asked: Mapping[str, Any]
    distribution: str
    mean: float
    sampling: str
    delta: float
    epsilon: float
    epsilon_of_run: float
    noises: Sequence[tuple[int, int, float]]
    noise_multipliers: tuple[float, float]
    schedules: str
    examples: int
    held_out: int
    score_noise: float | None
    points: Sequence[Sequence[float]]
    seeds: Sequence[int]
    score_draws: Sequence[float]
    engines: Sequence[str] = ()
    trial_ids: Sequence[str] = ()
    ended: bool = False

    @property
    def key(self) -> str:
        """Equal for equal requests."""
        return hashlib.sha256(json.dumps(self.asked, sort_keys=True).encode()).hexdigest()[:16]


def of_request(root: Path, asked: Mapping[str, Any]) -> PrivateSearch | None:
    """The store's search of that request; None where it has none.

    Raises:
        StoreError: It cannot be read. It is never drawn again.
    """
    wanted = json.dumps(asked, sort_keys=True)
    return next((s for s in read(root) if json.dumps(s.asked, sort_keys=True) == wanted), None)


def read(root: Path) -> list[PrivateSearch]:
    """The store's searches.

    Raises:
        StoreError: One cannot be read. What it has spent is not known then.
    """
    folder = root / _FOLDER
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(each for each in folder.iterdir() if each.suffix == ".json"):
        try:
            found.append(PrivateSearch(**json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"Cannot read the draw of a private search, {path}: {error}. Restore it: a new "
                "draw is another search, and its epsilon adds."
            ) from error
    return found


def add(root: Path, search: PrivateSearch) -> PrivateSearch:
    """Adds the search unless one of the same request is there; returns the store's.

    Raises:
        StoreError: The store's folder cannot be written to.
    """
    with writer.locked(root):
        found = of_request(root, search.asked)
        if found is None:
            _write(root, search)
    return found or search


def note(root: Path, search: PrivateSearch) -> None:
    """Writes beside the draw which trials it has come to, or that it has ended.

    Raises:
        StoreError: The store's folder cannot be written to.
    """
    with writer.locked(root):
        _write(root, search)


def _write(root: Path, search: PrivateSearch) -> None:
    path = root / _FOLDER / f"{search.key}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, json.dumps(asdict(search), indent=1).encode())
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}.") from error
