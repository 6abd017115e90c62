"""Kills at many moments: nothing that was finished is lost, nothing is there twice."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import survival


@pytest.mark.long  # five kills are more of the same
def test_a_driver_and_a_worker_are_killed(tmp_path: Path) -> None:
    strikes = (survival.kill_driver_while_it_writes, survival.kill_worker)
    survive(tmp_path, kills=2, seed=0, strikes=strikes)


@pytest.mark.slow
def test_five_kills(tmp_path: Path) -> None:
    survive(tmp_path, kills=5, seed=0)


@pytest.mark.long
def test_a_hundred_kills(tmp_path: Path) -> None:
    survive(tmp_path, kills=100, seed=1)


def survive(
    folder: Path,
    *,
    kills: int,
    seed: int,
    strikes: Sequence[survival.Strike] = survival.STRIKES,
) -> None:
    expected, seconds = survival.undisturbed(folder / "undisturbed")
    survived = survival.disturb(
        folder,
        kills=kills,
        strikes=strikes,
        seed=seed,
        expected=expected,
        seconds=seconds,
    )
    print(f"survived {survived.total()} kills: {dict(survived)}")
    assert survived.total() >= kills
