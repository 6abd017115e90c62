"""Sweeps of a user's own model and data, end to end on a few examples."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import here
import pytest

from dpbench import store, sweep
from dpbench.datasets import user_data
from dpbench.execution import grid_trials, sweep_file
from dpbench.store import history

FILE = """
import numpy as np
import torch
from torch import nn

from dpbench import Data
from parts import activation

drawn = iter(range(100))


def make(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(5, width), activation(), nn.Linear(width, 3))


def narrow():
    return nn.Linear(5, 2)


def other_inputs():
    return nn.Linear(6, 3)


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x).reshape(0, 7)


def whole():
    return nn.Sequential(nn.Linear(5, 12), nn.Unflatten(1, (4, 3)))


def random():
    model = nn.Linear(5, 3)
    nn.init.constant_(model.weight, next(drawn))
    return model


def grows():
    return nn.Linear(5, 3, bias=next(drawn) % 2 == 0)


def load(root):
    inputs = np.random.default_rng(0).normal(size=(80, 5))
    targets = inputs[:, :3].argmax(axis=1)
    return Data(train=(inputs[:60], targets[:60]), test=(inputs[60:], targets[60:]))
"""
COMMON = [
    *("--noise-multiplier", "1", "--max-grad-norm", "1", "--batch-size", "20", "--epochs", "1"),
    *("--no-timing", "--quiet", "--jobs", "1", "--engine", "bookkeeping"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "parts.py").write_text("from torch import nn\n\nactivation = nn.Tanh\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def swept(*flags: str) -> int:
    return sweep.main(["--dataset", "mine.py:load", "--model", "mine.py:make", *COMMON, *flags])


def ids(folder: Path) -> list[str]:
    rows = store.read_trials(folder / "results" / "mine.py-load-sweep", store.set_aside)
    assert set(rows["status"]) == {"ok"}
    return sorted(rows["trial_id"])


def test_a_sweep_of_a_users_model_and_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept("--model-args", "width=4,6", "--no-baseline") == 0
    rows = store.read_trials(folder / "results" / "mine.py-load-sweep", store.set_aside)
    assert set(rows["model"]) == {"mine.py:make(width=4)", "mine.py:make(width=6)"}
    assert set(rows["dataset"]) == {"mine.py:load"}
    assert rows[["model_hash", "data_hash"]].nunique().tolist() == [1, 1]
    assert set(rows["status"]) == {"ok"}
    before = ids(folder)
    assert str(folder) not in rows.to_csv()
    (kept,) = (folder / "results" / "mine.py-load-sweep" / "sources").iterdir()
    assert (kept / "parts.py").read_text() == (folder / "parts.py").read_text()

    (folder / "parts.py").write_text("# as before\nfrom torch import nn\nactivation = nn.Tanh\n")
    assert planned(folder, capsys, "--model-args", "width=4,6", "--no-baseline")[0] == 0
    (folder / "parts.py").write_text("from torch import nn\n\nactivation = nn.ReLU\n")
    assert planned(folder, capsys, "--model-args", "width=4,6", "--no-baseline")[0] == 2
    assert ids(folder) == before
    capsys.readouterr()


def test_a_metric_is_known_before_the_first_trial(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "\n\nmetrics = {'spread': lambda outputs, targets: float(outputs.std())}\n"
    (folder / "mine.py").write_text(FILE + own)
    for metric, line in {
        "spred": "Expected choose_by=spred to be one of accuracy, balanced_accuracy, auroc, loss, "
        "spread;",
        "auroc": "Expected choose_by=auroc with two classes; mine.py:load has 3.",
        "loss:lowest": "Expected choose_by=loss:lowest to be loss",
    }.items():
        assert swept("--choose-by", metric) == 2
        assert line in capsys.readouterr().err
    assert not (folder / "results").exists()
    with here.trials_here(), here.blank_figures():
        assert swept("--choose-by", "spread:lowest", "--confirm", "1", "--lr", "0.1,0.5") == 0
    (record,) = history.read(folder / "results" / "mine.py-load-sweep")
    assert record.choose_by == "spread:lowest"
    rows = store.read_trials(folder / "results" / "mine.py-load-sweep", store.set_aside)
    private = rows[rows["noise_multiplier"].notna()]
    spreads = private["test_metrics"].map(lambda text: json.loads(text)["spread"])
    (again,) = private.loc[private["seed"] == 1, "learning_rate"]
    assert again == private.loc[spreads[private["seed"] == 0].idxmin(), "learning_rate"]


def planned(
    folder: Path, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, Sequence[str]]:
    """How many trials are still to run, and what was said of them."""
    capsys.readouterr()
    loud = [flag for flag in COMMON if flag != "--quiet"]
    given = ["--dataset", "mine.py:load", "--model", "mine.py:make", *loud, *flags]
    assert sweep.main([*given, "--dry-run", "--json"]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out)["trials_to_run"], printed.err.splitlines()


def test_a_sweep_file_names_files_relative_to_itself(folder: Path, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    shutil.copy(folder / "mine.py", below / "other.py")
    shutil.copy(folder / "parts.py", below)
    (below / "s.toml").write_text(
        'dataset = "other.py:load"\nmodel = ["other.py:make", "mlp"]\n'
        "model_args = { width = [16, 32] }\nbaseline = false\nbatch_size = 20\nepochs = 1\n"
        "noise_multiplier = 1\nmax_grad_norm = 1\n"
    )
    file = sweep_file.read(below / "s.toml")
    data = user_data.introduce(str(file.settings["dataset"]), folder)
    trials = grid_trials.trials(file.grids({}), data.code.name)
    assert sorted(trial.model for trial in trials) == [
        *("mlp", "other.py:make(width=16)", "other.py:make(width=32)")
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "mlp", "--model-args", "width=1"], "built-in models take no arguments"),
        (["--model-args", "width"], "NAME=VALUE"),
        (["--model-args", "width=1,1"], "model_args width once, not 1 twice"),
        (["--model-args", "width=1", "width=2"], "once, not width twice"),
        (["--model", "mine.py:mak"], "did you mean make?"),
        (["--dataset", "mine.py:lod"], "did you mean load?"),
        (
            ["--dataset", "digits", "--model", "mine.py:make"],
            "Cannot train mine.py:make on digits: The model does not take the dataset's inputs",
        ),
        (
            ["--model", "mine.py:narrow"],
            "logits [8, 3] for 8 examples of 3 classes, not float32 [8, 2]",
        ),
        (["--model", "mine.py:other_inputs"], "the dataset's inputs, float32 [8, 5]: RuntimeError"),
        (["--model", "mine.py:whole"], "for 8 examples of 3 classes, not float32 [8, 4, 3]"),
        (["--model", "mine.py:random"], "another weight when it is built again"),
        (["--model", "mine.py:grows"], "other layers when it is built again"),
        (["--model", "mine.py:Broken"], "return self.layer(x).reshape(0, 7)"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert swept(*flags) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert "dpbench/" not in said
    assert len(said.splitlines()) == 1 or "raised an error" in said
    assert not (folder / "results").exists()
