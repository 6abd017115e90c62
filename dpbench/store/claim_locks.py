"""Trials that several sweeps into one store share out among themselves."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from dpbench import store
from dpbench.store import files, locks
from dpbench.trial import Trial


class Claims:
    """This sweep's claims; they end with its process, whatever ends that.

    Args:
        root: The store.
        states: What it held when this sweep was planned.
        on_done: Told of each trial that another sweep has run since.
    """

    def __init__(
        self, root: Path, states: Mapping[str, str], on_done: Callable[[Trial], None]
    ) -> None:
        self._root, self._states, self._on_done = root, states, on_done
        self._locks = locks.Claims(root / files.SCRATCH / "claims")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._locks.close()

    def take(self, trial: Trial) -> Literal["mine", "busy", "done"]:
        """Claims the trial, unless another sweep runs it now, or has since it was planned."""
        if not self._locks.take(trial.trial_id):
            return "busy"
        with store.writing(self._root):
            state = store.state(self._root, trial.trial_id)
        if state in (None, self._states.get(trial.trial_id)):
            return "mine"
        self.give_back(trial)
        self._on_done(trial)
        return "done"

    def give_back(self, trial: Trial) -> None:
        """Lets other sweeps have the trial."""
        self._locks.give_back(trial.trial_id)
