"""Users' models and data of several kinds, and those of the READMEs, on a few examples."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from factories import ROOT, TESTS

from dpbench import Grid, sweep, user_code
from dpbench.datasets import loading, user_data
from dpbench.execution import grid_trials, user_checks
from dpbench.measurement import step_timing
from dpbench.training import loop
from dpbench.trial import Trial, Workload

EXAMPLES = TESTS / "examples"


def trials(dataset: str, model: str, **axes: Any) -> list[Trial]:
    asked: dict[str, Any] = {
        **{"noise_multiplier": 0.5, "max_grad_norm": 1.0, "batch_size": 30, "epochs": 2},
        # a transformer without warm-up learns nothing at the rates of the others
        **{"learning_rate": 0.05 if model == "transformer" else 0.5, "model": model},
    }
    return grid_trials.trials([Grid(**(asked | axes))], dataset)


@pytest.mark.parametrize(
    ("data", "model", "arguments", "engine"),
    [
        ("tabular.py:load", "tabular.py:make", {"width": 8}, "bookkeeping"),
        ("text.py:load", "text.py:Classifier", {}, "bookkeeping"),
        ("text.py:load", "transformer", {}, "bookkeeping"),
        ("digits.py:load", "resnet.py:make", {"blocks": 1}, "bookkeeping"),
        ("digits.py:load", "lstm.py:RowsClassifier", {}, "bookkeeping"),
    ],
)
def test_an_example_trains_with_and_without_privacy(
    data: str, model: str, arguments: Mapping[str, Any], engine: str
) -> None:
    dataset = user_data.introduce(data, EXAMPLES, EXAMPLES).code.name
    named = f"{EXAMPLES}/{model}" if user_code.is_reference(model) else model
    asked = trials(dataset, named, model_args=arguments or None)
    user_checks.check(asked, EXAMPLES)
    baseline, private = asked
    assert private.engine == engine
    read = loading.load(dataset, EXAMPLES, "cpu")
    for trial in (baseline, private):
        first, last = loop.train(trial, read, physical_batch_size=16)
        assert first.train_loss is not None
        assert last.train_loss is not None
        assert last.train_loss < first.train_loss
    timed = step_timing.measure(private.engine, Workload.of(private), read, pairs=1)
    assert timed[0].model == private.model
    assert timed[0].model_hash == private.model_hash


@pytest.mark.parametrize("room", ["models", "datasets"])
def test_the_examples_of_a_readme_run(room: str, tmp_path: Path) -> None:
    page = (ROOT / "dpbench" / room / "README.md").read_text(encoding="utf-8")
    for name, content in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(content, encoding="utf-8")
    dataset = user_data.introduce("mine.py:load", tmp_path, tmp_path).code.name
    model = f"{tmp_path}/mine.py:make" if room == "models" else "resnet-gn"
    user_checks.check(trials(dataset, model), tmp_path)
    if room == "models":
        loss = user_code.find("losses.py:squared", tmp_path)
        assert loss.parameters == ("output", "target")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command as a user types it, in the folder of the examples."""
    return subprocess.run(
        [sys.executable, "-m", "dpbench", *arguments],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        check=False,
    )


COMMAND_LINES = {
    "tabular": ("tabular.py:make", "tabular.py:load", "--data-root", "."),
    "text": ("text.py:Classifier", "text.py:load"),
    "resnet": ("resnet.py:make", "digits.py:load", "--model-args", "blocks=1"),
    "lstm": ("lstm.py:RowsClassifier", "digits.py:load"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", COMMAND_LINES)
def test_an_example_by_every_command(name: str, tmp_path: Path) -> None:
    model, dataset, *more = COMMAND_LINES[name]
    task = ["--model", model, "--dataset", dataset, *more]
    store = str(tmp_path / "store")
    sizes = ["--batch-size", "20"]
    privacy = ["--noise-multiplier", "1", "--max-grad-norm", "1"]
    small = ["--canaries", "24", "--runs", "1", "--epochs", "2"]
    done = {
        "check": command("check", model, *task[2:], *sizes),
        "sweep": command("sweep", *task, *privacy, *sizes, "--epochs", "2", "--out", store),
        "timing": command(
            "timing", *task, *sizes, "--engine", "bookkeeping", "--processes", "1", "--out",
            f"{store}-timing",
        ),
        "audit": command("audit", *task, *small, "--engine", "bookkeeping"),
        "report": command("report", store, "--answer-at", "50"),
        "compare": command("compare", store, store, "--out", f"{store}-compared"),
    }  # fmt: skip
    for each, ended in done.items():
        assert ended.returncode == 0, (each, ended.stdout, ended.stderr)
        assert "Warning" not in ended.stderr
    assert "The fastest private engine that is right: " in done["check"].stdout
    assert f"finished on {dataset}" in done["sweep"].stdout
    assert "bookkeeping" in done["timing"].stdout
    assert "consistent" in done["audit"].stdout
    assert "\n50" in done["report"].stdout
    assert "No regression" in done["compare"].stdout


@pytest.mark.slow
def test_batch_norm_is_refused_by_every_command() -> None:
    model = ["resnet.py:make", "--model-args", "norm=batch", "--dataset", "digits.py:load"]
    checked = command("check", *model)
    assert checked.returncode == 1
    assert "BatchNorm2d" in checked.stdout
    for name in ("sweep", "timing", "audit"):
        ended = command(name, "--model", *model)
        assert ended.returncode == 2, ended.stderr
        (line,) = ended.stderr.splitlines()
        assert "BatchNorm2d" in line
        assert "GroupNorm" in line


def test_batch_norm_is_refused_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(EXAMPLES)
    given = "--dataset digits.py:load --model resnet.py:make --model-args norm=batch --device cpu"
    asked = "--noise-multiplier 1 --max-grad-norm 1 --batch-size 30 --no-timing --quiet"
    out = tmp_path / "store"
    assert sweep.main([*given.split(), *asked.split(), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "BatchNorm2d" in line
    assert "GroupNorm" in line
    assert not out.exists()
