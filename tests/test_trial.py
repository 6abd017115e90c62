import dataclasses
from typing import Any

import pytest
from conftest import make_trial

from dpbench.trial import BadInput


def test_id_depends_on_every_field_and_on_nothing_else() -> None:
    trial = make_trial()
    changes: dict[str, Any] = {
        "dataset": "mnist",
        "model": "other",
        "engine": "opacus-ghost",
        "sampling": "shuffle",
        "noise_multiplier": 2.0,
        "max_grad_norm": 2.0,
        "batch_size": 32,
        "learning_rate": 0.2,
        "momentum": 0.5,
        "epochs": 2,
        "validation_examples": 100,
        "seed": 1,
        "delta": 1e-6,
        "fresh_noise": True,
    }
    assert set(changes) == {field.name for field in dataclasses.fields(trial)}
    ids = {dataclasses.replace(trial, **{name: value}).trial_id for name, value in changes.items()}
    assert len(ids | {trial.trial_id}) == len(changes) + 1
    assert make_trial().trial_id == trial.trial_id


def test_id_is_the_same_in_every_version() -> None:
    # A changed id would make every store start again: change SCHEMA_VERSION before this number.
    assert make_trial().trial_id == "41adcb8e888633d7"


def test_no_two_trials_share_noise_but_engines_and_lengths_of_one() -> None:
    trial = make_trial()
    alike: list[dict[str, Any]] = [{"engine": "bookkeeping"}, {"engine": "fused"}, {"epochs": 7}]
    for same in alike:
        assert dataclasses.replace(trial, **same).noise_seed == trial.noise_seed
    others: list[dict[str, Any]] = [
        *({"noise_multiplier": 0.5}, {"max_grad_norm": 2.0}, {"batch_size": 32}, {"seed": 1}),
        *({"learning_rate": 0.2}, {"momentum": 0.5}, {"sampling": "shuffle"}, {"dataset": "mnist"}),
    ]
    seeds = {dataclasses.replace(trial, **other).noise_seed for other in others}
    assert len(seeds | {trial.noise_seed}) == len(others) + 1
    # A changed one would give every trial other numbers: record a new `noise_derivation` first.
    assert trial.noise_seed == 4464236341612462650


def test_one_and_one_point_zero_are_the_same_trial() -> None:
    assert make_trial(noise_multiplier=1).trial_id == make_trial(noise_multiplier=1.0).trial_id


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("noise_multiplier", -1, ">= 0"),
        ("noise_multiplier", float("nan"), ">= 0"),
        ("noise_multiplier", 1e300, "<= 1,000,000"),
        ("noise_multiplier", 1e-300, ">= 1e-12, or 0"),
        ("max_grad_norm", 0, "> 0"),
        ("max_grad_norm", float("inf"), "> 0"),
        ("batch_size", 0, ">= 1"),
        ("learning_rate", -0.1, "> 0"),
        ("momentum", 1.0, ">= 0 and < 1"),
        ("epochs", 0, ">= 1"),
        ("seed", -1, ">= 0"),
        ("delta", 0.0, "> 0 and < 1"),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: float, bound: str) -> None:
    with pytest.raises(BadInput) as error:
        make_trial("opacus-hooks", **{field: value})
    assert f"{field}={value!r}" in str(error.value)
    assert bound in str(error.value)


def test_privacy_belongs_to_private_engines() -> None:
    with pytest.raises(BadInput, match="to be None for the non-private engine"):
        make_trial("non-private", noise_multiplier=1.0)
    with pytest.raises(BadInput, match="to be numbers for engine='opacus-hooks'"):
        make_trial(delta=None)
