"""Audits of models other than the tutorial's: canaries of any shape, users' models among them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from factories import TESTS

import dpbench
from dpbench import audit
from dpbench.errors import BadInput
from dpbench.execution import audits, workloads

EXAMPLES = TESTS / "examples"
SMALL: dict[str, Any] = {"canaries": 32, "runs": 2, "epochs": 8, "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    ("data", "model", "arguments"),
    [
        ("tabular.py:load", "tabular.py:make", {"width": 16}),
        ("text.py:load", "text.py:Classifier", {}),
        ("digits.py:load", "lstm.py:RowsClassifier", {}),
    ],
)
def test_a_users_model_is_audited(data: str, model: str, arguments: dict[str, int]) -> None:
    given: dict[str, Any] = {
        "model": f"{EXAMPLES}/{model}",
        "model_args": arguments,
        "dataset": f"{EXAMPLES}/{data}",
        "data_root": EXAMPLES,
    }
    found = dpbench.run_audit(**given, **SMALL)
    assert found.consistent, found.verdict
    assert found.noise_bound > 0.5 * found.claimed
    assert found.family_bound > 0
    planted = dpbench.run_audit(**given, **SMALL, broken="noise-halved")
    assert not planted.consistent


def test_the_engines_are_those_that_can_train_it() -> None:
    task = audits.audited_task("mlp", None, "breast-cancer", None, EXAMPLES)
    found = audits.audited_engines(task, EXAMPLES)
    assert "fused" not in found
    assert "bookkeeping" in found
    assert audits.audited_task(None, None, None, None, EXAMPLES) is None


def test_more_canaries_than_parameters_are_refused() -> None:
    with pytest.raises(BadInput, match=r"the trained parameters of tabular\.py:make"):
        dpbench.run_audit(
            model=f"{EXAMPLES}/tabular.py:make",
            dataset=f"{EXAMPLES}/tabular.py:load",
            model_args={"width": 2},
            data_root=EXAMPLES,
        )


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    model = f"{EXAMPLES}/tabular.py:make"
    assert audit.main(["--model", model, "--model-args", "width=1,2"]) == 2
    assert "Expected one model, not tabular.py:make(width=1)" in capsys.readouterr().err
    assert audit.main(["--model", "mlp", "--model-args", "width=1"]) == 2
    assert "built-in models take no arguments" in capsys.readouterr().err


OWN = """
import torch
from torch import nn
import dpbench

def make():
    return nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.PReLU(), nn.Linear(40, 1))

def load(root):
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 6, generator=draws)
    return dpbench.Data(train=(inputs[:40], inputs[:40, 0]), test=(inputs[40:], inputs[40:, 0]))

def loss(output, target):
    return (output[:, 0] - target) ** 2
"""


@pytest.fixture
def own(tmp_path: Path) -> Mapping[str, Any]:
    """A regression, whose PReLU opacus-ew does not know."""
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    names = {"model": "make", "dataset": "load", "loss": "loss"}
    return {key: f"{tmp_path}/own.py:{name}" for key, name in names.items()}


def test_a_loss_of_the_users_is_audited(own: Mapping[str, Any]) -> None:
    found = dpbench.run_audit("bookkeeping", **own, **SMALL)
    assert found.consistent, found.verdict
    assert found.noise_bound > 0.5 * found.claimed
    planted = dpbench.run_audit("bookkeeping", **own, **SMALL, broken="no-clipping")
    assert not planted.consistent


def test_engines_are_checked_before_they_are_audited(own: Mapping[str, Any]) -> None:
    task = workloads.workload(**own, model_args=None, data_root=EXAMPLES)
    right = audits.audited_engines(task, EXAMPLES)
    assert "opacus-ew" not in right
    assert "bookkeeping" in right
    with pytest.raises(BadInput, match=r"make: opacus-ew .*PReLU.* use engine="):
        dpbench.run_audit("opacus-ew", **own, **SMALL)
    batch_norm: dict[str, Any] = {
        "model": f"{EXAMPLES}/resnet.py:make",
        "dataset": f"{EXAMPLES}/digits.py:load",
    }
    with pytest.raises(BadInput, match="BatchNorm2d"):
        dpbench.run_audit(**batch_norm, model_args={"norm": "batch"})
