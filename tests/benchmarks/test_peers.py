"""The peers run what the sweep runs."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from factories import tutorial_cnn

from bench import launches
from bench.peers import race, stacks, tutorial
from dpbench.datasets import Data
from dpbench.execution import grid_trials, sweep_file


@pytest.mark.parametrize("count", [2, 5, 8])
def test_the_sweep_runs_the_tutorials_trials_and_no_other(count: int, tmp_path: Path) -> None:
    trials = list(itertools.product(race.NOISES, race.CLIPS))[:count]
    race._sweep(trials, "fused", tmp_path, [])
    fixed = {"batch_size": 64, "epochs": 3, "baseline": False}
    asked = grid_trials.trials(sweep_file.read(tmp_path / "fused.toml").grids(fixed), "mnist")
    found = sorted((trial.noise_multiplier, trial.max_grad_norm) for trial in asked)
    assert found == sorted(trials)


def test_without_its_data_it_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()  # a data root that cannot be made
    assert race.main(["--data-root", str(blocked)]) == 2
    assert "Cannot load dataset=mnist" in capsys.readouterr().err


@pytest.mark.parametrize("program", [launches.main, stacks.main])
def test_what_needs_a_gpu_says_so(
    program: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(["--device", "cpu"]) == 2
    assert "Expected device=cpu to be a CUDA device" in capsys.readouterr().err


def test_what_launches_are_counted_of_takes_steps(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "STEPS", 2)
    found = list(launches._arms(16, digits))
    assert [name for name, _, _ in found] == [*launches.ENGINES, "stack of 10"]
    for _, plain, captured in found:
        plain.run(2)
        assert captured is None  # on a CPU


def test_its_network_is_ours() -> None:
    theirs, ours = (
        tutorial.SampleConvNet(),
        tutorial_cnn(seed=0, device="cpu"),
    )
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        its.data.copy_(mine.data)
    images = torch.randn(4, 1, 28, 28)
    assert torch.allclose(theirs(images), ours(images), atol=1e-6)
