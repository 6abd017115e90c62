"""Engines are checked on users' models before anything runs, each once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dpbench import check, engines, sweep, timing
from dpbench.datasets import resolution
from dpbench.engines.preflight import stepping
from dpbench.engines.preflight.stepping import Outcome
from dpbench.errors import BadInput
from dpbench.execution import engine_checks
from dpbench.execution.grid import Grid
from dpbench.execution.sweep_plan import SweepPlan, plan_sweep

FILE = """
import torch
from torch import nn

from dpbench import Data


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, tokens):
        return self.lstm(self.embedding(tokens))[0][:, -1]


def recurrent():
    return Recurrent()


def normalised():
    return nn.Sequential(
        nn.Embedding(9, 4), nn.Flatten(), nn.BatchNorm1d(20), nn.Linear(20, 3)
    )


def circular():
    layers = nn.Embedding(9, 4), nn.Conv1d(5, 5, 3, padding=1, padding_mode="circular")
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(20, 3))


class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(2, 3, 3), nn.Linear(48, 3)

    def forward(self, images):
        outputs = self.layer(images)
        return self.head(outputs.view(outputs.size(0), -1))


def viewed():
    return Viewed()


def images(root):
    images = torch.randn(60, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(60) % 3
    return Data(train=(images[:40], targets[:40]), test=(images[40:], targets[40:]))


def load(root):
    tokens = torch.randint(0, 9, (60, 5), generator=torch.Generator().manual_seed(0))
    targets = tokens[:, 0] % 3
    return Data(train=(tokens[:40], targets[:40]), test=(tokens[40:], targets[40:]))


def loss(output, target):
    return nn.functional.cross_entropy(output, target, reduction="none") ** 2
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    for each in (engine_checks._preflight, engine_checks._refuse, engine_checks._fastest_right):
        each.cache_clear()  # the files of two tests have one name
    return tmp_path


def planned(folder: Path, model: str, data: str = "load", **axes: object) -> SweepPlan:
    grid = Grid(model=f"mine.py:{model}", batch_size=[8, 16], epochs=1, **axes)  # type: ignore[arg-type]
    return plan_sweep(
        [grid], dataset=resolution.dataset(f"mine.py:{data}", folder), data_root=folder
    )


def test_the_default_engine_is_the_fastest_that_is_right(folder: Path) -> None:
    plan = planned(folder, "recurrent")
    assert {trial.engine for trial in plan.trials} == {"non-private", "opacus-ew"}
    plan = planned(folder, "circular", loss="mine.py:loss")
    assert {trial.engine for trial in plan.trials} == {"non-private", "bookkeeping"}


def test_a_model_that_views_its_outputs_is_trained_in_the_layout_that_it_takes(
    folder: Path,
) -> None:
    """`view` does not take channels_last, and some models' views do not take empty batches."""
    plan = planned(folder, "viewed", data="images", engine=engines.private_names()[1:])
    engine_checks.refuse(plan.trials, folder)
    assert {trial.engine for trial in plan.trials} == {
        "non-private",
        *engines.private_names()[1:],
    }
    for trial in plan.trials:
        spec = engines.spec(trial.engine)
        assert engines.memory_format(spec, "cpu", trial) == "contiguous"
        assert engines.memory_format(spec, "cpu") == spec.memory_format


def test_a_model_that_mixes_examples_is_refused_when_it_is_planned(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"layer '2' \(BatchNorm1d\) mixes .*; use GroupNorm"):
        planned(folder, "normalised")


def test_each_engine_is_checked_once_however_many_trials(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    worst: Callable[..., Outcome] = stepping.worst

    def counted(*given: object) -> Outcome:
        checked.append(str(getattr(given[0], "engine")))  # noqa: B009
        return worst(*given)

    monkeypatch.setattr(stepping, "worst", counted)
    plan = planned(folder, "circular", seed=[0, 1, 2])
    assert len(plan.trials) > 9
    assert sorted(checked) == ["bookkeeping", "non-private"]
    engine_checks.refuse(plan.trials, folder)
    assert sorted(checked) == ["bookkeeping"] * 2 + ["non-private"] * 2


def test_what_is_built_in_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_checks, "_preflight", None)
    monkeypatch.setattr(engine_checks, "_refuse", None)
    plan = plan_sweep([Grid(batch_size=[64], epochs=1)], dataset="digits", data_root=Path())
    engine_checks.refuse(plan.trials, Path())
    assert {trial.engine for trial in plan.trials} == {"fused", "fused-non-private"}


@pytest.mark.parametrize("command", [sweep, timing])
def test_an_engine_that_is_named_and_wrong_is_refused_before_anything_runs(
    command: object, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "--model mine.py:circular --dataset mine.py:load --engine opacus-hooks --batch-size 8"
    given = [*typed.split(), *("--out", "made")]
    run: Callable[[list[str]], int] = getattr(command, "main")  # noqa: B009
    assert run(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "opacus-hooks gets the clipped sum wrong by" in line
    assert "layer '1' (Conv1d); pad before it" in line
    assert line.endswith("or use engine=bookkeeping.")
    assert not (folder / "made").exists()


def test_the_command_checks_a_users_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine_checks, "_timed", lambda *_: (0.001, 1.0))
    typed = "mine.py:circular --dataset mine.py:load --loss mine.py:loss --batch-size 8"
    assert check.main(typed.split()) == 0
    out = capsys.readouterr().out
    assert out.startswith("mine.py:circular on mine.py:load, batch size 8, 1 thread")
    assert "layer '1' (Conv1d)" in " ".join(out.split())
