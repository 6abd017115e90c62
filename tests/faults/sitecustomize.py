"""Real faults for real sweeps: with this folder on PYTHONPATH, trials of chosen seeds go wrong.

FAULTS="3=segfault 4=hang" names them; the others train as ever.
"""

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Never

HOSTILE = "</td><script>alert(1)</script> \u2211 \u540d\u524d \x1b[2J\n\udcff 'x' \"y\" $\\frac"


def _raise() -> Never:
    raise ValueError(HOSTILE)


def _memory() -> None:
    import torch

    torch.empty(1 << 50, dtype=torch.uint8)


def _once() -> None:
    """Dies at the first try only."""
    marker = Path(os.environ["FAULTS_FOLDER"]) / "once"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


FAULTS: Mapping[str, Callable[[], object]] = {
    "raise": _raise,
    "memory": _memory,
    "once": _once,
    "exit": lambda: os._exit(3),
    "sysexit": lambda: sys.exit(5),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "hang": lambda: ctypes.PyDLL(None).pause(),  # in compiled code, holding the interpreter's lock
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds dpbench.training.loop as everybody does, and wraps its function once it is imported."""

    def __init__(self, faults: Mapping[int, Callable[[], object]]) -> None:
        self._faults = faults

    def find_spec(
        self, name: str, _path: object, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "dpbench.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def then_wrap(module: ModuleType) -> None:
            execute(module)
            module.train = self._wrapped(module.train)  # type: ignore[attr-defined]

        spec.loader.exec_module = then_wrap  # type: ignore[method-assign]
        return spec

    def _wrapped(self, train: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def train_or_fail(trial: Any, *rest: Any, **named: Any) -> Iterator[Any]:
            for epoch in train(trial, *rest, **named):
                yield epoch
                if epoch.epoch == 1 and trial.seed in self._faults:
                    self._faults[trial.seed]()

        return train_or_fail


if os.environ.get("FAULTS"):
    chosen = (each.split("=") for each in os.environ["FAULTS"].split())
    sys.meta_path.insert(0, _Finder({int(seed): FAULTS[fault] for seed, fault in chosen}))
