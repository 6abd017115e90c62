"""What is copied from the page runs, and is read, as it is."""

import math
import tomllib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dpbench.analysis.answers import Accuracy, Best, Setting
from dpbench.execution import grid_trials, sweep_file
from dpbench.reporting import recipes


def best(**changed: Any) -> Best:
    setting = Setting(
        model="tutorial-cnn",
        engine="fused",
        sampling="poisson",
        noise_multiplier=1.25,
        max_grad_norm=0.5,
        clipping="flat",
        batch_size=16,
        optimizer="sgd",
        learning_rate=0.25,
        momentum=0.5,
        epochs=2,
        train_examples=40,
        steps=4,
    )
    accuracy = Accuracy(mean=0.9, low=math.nan, high=math.nan, seeds=1, least=0.9, most=0.9)
    return Best(
        setting=replace(setting, **changed),
        epsilon=3.2,
        delta=1e-5,
        accountant="gaussian" if changed.get("sampling") == "shuffle" else "pld",
        accuracy=accuracy,
        confirmed_on=(),
        accuracy_when_chosen=accuracy,
        loss=None,
        verdict=None,
        step_times=(),
        arms=1,
        chosen_by="test_accuracy",
        metric="accuracy",
        test_metric=0.9,
        ahead=None,
        next=None,
        price=None,
        statement="The guarantee.",
    )


@pytest.mark.parametrize(
    "changed",
    [{}, {"optimizer": "adam", "momentum": 0.0}, {"sampling": "shuffle"}],
    ids=["sgd", "adam", "shuffled"],
)
@pytest.mark.filterwarnings("ignore")  # of Opacus, and of torch's loader
def test_the_opacus_code_trains(changed: dict[str, Any]) -> None:
    code = recipes.opacus_code(best(**changed))
    assert code is not None
    names: dict[str, Any] = {}
    exec(compile(code, "copied", "exec"), names)  # noqa: S102 - it is what is tested
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 5, generator=draws)
    dataset = torch.utils.data.TensorDataset(inputs, torch.arange(40) % 3)
    model = nn.Linear(5, 3)
    before = model.weight.detach().clone()
    trained, epsilon = names["train"](model, dataset)
    assert not torch.equal(next(iter(trained.parameters())), before)
    assert 0 < epsilon < 100
    if "momentum" in code:
        assert "lr=0.25, momentum=0.5" in code
    assert ("does not hold" in code.replace("\n    ", " ")) == ("sampling" in changed)
    assert max(map(len, code.splitlines())) <= 100


def test_code_for_a_users_loss_takes_it_and_says_what_was_measured() -> None:
    accuracy = Accuracy(
        mean=math.nan, low=math.nan, high=math.nan, seeds=1, least=math.nan, most=math.nan
    )
    found = replace(best(), accuracy=accuracy, metric="loss", test_metric=0.25)
    code = recipes.opacus_code(found, loss="mine.py:loss")
    assert code is not None
    compile(code, "copied", "exec")
    assert "cross_entropy" not in code
    flat = " ".join(code.split())
    assert "dpbench measured test loss 0.25 by these numbers" in flat
    assert "The loss was mine.py:loss: pass its mean over the examples of a batch." in flat


def test_code_says_what_a_release_needs_and_no_smaller_epsilon() -> None:
    code = recipes.opacus_code(replace(best(), epsilon=2.662))
    assert code is not None
    assert "secure_mode=True" in code
    assert "epsilon 2.67" in code
    assert "# epsilon 2.67" in recipes.sweep_file(replace(best(), epsilon=2.662), dataset="digits")


def test_what_opacus_cannot_do_has_no_code() -> None:
    assert recipes.opacus_code(best(clipping="automatic")) is None


def test_the_sweep_file_asks_for_the_setting() -> None:
    text = recipes.sweep_file(best(), dataset="digits", validation_examples=100)
    read = sweep_file.parse(text)
    assert read.settings == {"dataset": "digits"}
    (asked,) = [trial for trial in grid_trials.trials(read.grids({}), "digits") if trial.private]
    chosen = best().setting
    same = ("model", "engine", "noise_multiplier", "max_grad_norm", "batch_size", "momentum")
    for name in (*same, "learning_rate", "optimizer", "clipping", "sampling", "epochs"):
        assert getattr(asked, name) == getattr(chosen, name)
    assert (asked.delta, asked.validation_examples) == (1e-5, 100)


def test_a_hostile_name_is_a_toml_string() -> None:
    name = 'a"\n\\\x7f]'
    assert sweep_file.parse(recipes.sweep_file(best(model=name), dataset=name)).settings == {
        "dataset": name
    }


def test_a_users_model_keeps_its_arguments_and_loss() -> None:
    text = recipes.sweep_file(
        best(model="mine.py:make(deep=true,name=a,width=16)"),
        dataset="mine.py:load",
        model_args='{"width": 16, "deep": true, "name": "a"}',
        loss="mine.py:loss",
    )
    read = tomllib.loads(text)
    assert read["model_args"] == {"width": 16, "deep": True, "name": "a"}
    assert (read["model"], read["loss"]) == ("mine.py:make", "mine.py:loss")
