"""Trials, rows and frames that several test modules make."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from torch import nn

from dpbench import engines, models, store
from dpbench.measurement import environment
from dpbench.observations import Epoch
from dpbench.trial import USER_FIELDS, Trial, Workload

TESTS = Path(__file__).parent
ROOT = TESTS.parent
WHERE = environment.describe(
    implementation="opacus-hooks",
    device="cpu",
    threads=1,
    memory_format="contiguous",
    physical_batch_size=512,
    workers_beside=1,
)
BEFORE = [0.900, 0.904, 0.902, 0.906]


def mostly_slow(cases: Iterable[Any], fast: Callable[[Any], bool]) -> list[Any]:
    """The cases of a test; those that show what a fast one shows are slow tests."""
    listed = list(cases)
    assert any(map(fast, listed))
    return [case if fast(case) else _slow(case) for case in listed]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)


def make_trial(engine: str = "opacus-hooks", **changed: Any) -> Trial:
    """A small trial on digits, with some fields changed."""
    private = engines.spec(engine).private
    asked: dict[str, Any] = {
        "dataset": "digits",
        "engine": engine,
        "noise_multiplier": 1.0 if private else None,
        "max_grad_norm": 1.0 if private else None,
        "delta": 1e-5 if private else None,
        "batch_size": 64,
        "learning_rate": 0.1,
        "epochs": 1,
    }
    return Trial(**(asked | changed))


def make_workload(batch_size: int = 64, **changed: str) -> Workload:
    """The tutorial's CNN on digits, with some fields changed."""
    asked = {"dataset": "digits", "model": "tutorial-cnn"} | changed
    return Workload(batch_size=batch_size, **asked)


def tutorial_cnn(*, seed: int, device: str) -> nn.Sequential:
    """The tutorial's CNN with the initial weights of that seed."""
    model = models.build("tutorial-cnn", "mnist", seed=seed, device=device)
    assert isinstance(model, nn.Sequential)
    return model


def rows(trial: Trial, epochs: int | None = None) -> list[dict[str, object]]:
    seen = [
        Epoch(
            epoch=epoch,
            steps=22 * epoch,
            test_accuracy=0.5,
            epsilon=float(epoch) if trial.private else None,
            accountant="prv" if trial.private else None,
        )
        for epoch in range(1, (epochs or trial.epochs) + 1)
    ]
    return [store.trial_row(trial, epoch, WHERE) for epoch in seen]


def frame(*measured: tuple[Trial, int, float, float | None]) -> pd.DataFrame:
    """Rows of trials from (trial, epoch, test accuracy, epsilon), of the types that a store has."""
    rows = [
        store.trial_row(
            trial,
            Epoch(epoch=epoch, test_accuracy=accuracy, epsilon=epsilon, accountant="pld"),
            WHERE,
        )
        for trial, epoch, accuracy, epsilon in measured
    ]
    return pa.Table.from_pylist(rows, schema=store.TRIALS).to_pandas()


def timings(ratios: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        dict.fromkeys(USER_FIELDS)
        | {
            "model": "tutorial-cnn",
            "engine": "opacus-hooks",
            "batch_size": 64,
            "device": "cpu",
            "seconds_per_step": [0.01 * ratio for ratio in ratios],
            "baseline_seconds_per_step": 0.01,
            "peak_memory_bytes": 2.0**20,
            "alone": [True] * (len(ratios) - 1) + [False],
            "process": math.nan,
        }
    )


def arm(accuracies: list[float], noise: float = 1.0, epsilon: float = 2.0) -> pd.DataFrame:
    """Finished trials of one arm, a seed each."""
    return frame(
        *(
            (make_trial(seed=seed, noise_multiplier=noise), 1, accuracy, epsilon)
            for seed, accuracy in enumerate(accuracies)
        )
    )


def moved(by: list[float]) -> pd.DataFrame:
    return arm([old + change for old, change in zip(BEFORE, by, strict=True)])
