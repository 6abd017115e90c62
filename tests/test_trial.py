import dataclasses
from typing import Any

import pytest
from factories import ROOT, make_trial

from dpbench import store
from dpbench.errors import BadInput
from dpbench.trial import Trial

RESULTS = ROOT / "results"


def _mnist(
    noise: float | None, clip: float | None, batch_size: int, rate: float, epochs: int, **more: Any
) -> dict[str, Any]:
    """Fields of a trial on MNIST; those without a noise are the baseline's."""
    private = noise is not None
    return {
        "dataset": "mnist",
        "engine": "fused" if private else "non-private",
        "noise_multiplier": noise,
        "max_grad_norm": clip,
        "batch_size": batch_size,
        "learning_rate": rate,
        "epochs": epochs,
        "delta": 1e-5 if private else None,
    } | more


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
        "data_hash": "1",
        "model_args": '{"width": 1}',
        "model_hash": "2",
        "loss": "mine.py:loss",
        "loss_hash": "3",
        "optimizer": "adam",
        "clipping": "automatic",
        "epochs": 2,
        "validation_examples": 100,
        "seed": 1,
        "delta": 1e-6,
        "noise_source": "system",
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
        *({"optimizer": "adam"}, {"clipping": "automatic"}),
        *({"learning_rate": 0.2}, {"momentum": 0.5}, {"sampling": "shuffle"}, {"dataset": "mnist"}),
    ]
    seeds = {dataclasses.replace(trial, **other).noise_seed for other in others}
    assert len(seeds | {trial.noise_seed}) == len(others) + 1
    # A changed one would give every trial other numbers: record a new `noise_derivation` first.
    assert trial.noise_seed == 4464236341612462650


# Of trials of results/, as they were when these were published, and of each kind besides
IDS: dict[str, dict[str, Any]] = {
    "285ff9789a0c6616": _mnist(0.6, 0.5, 256, 0.25, 10),  # results/mnist-quick
    "111803f9beced94a": _mnist(4.0, 2.0, 1024, 1.0, 10),
    "847a8217afbd8213": _mnist(None, None, 256, 0.1, 10),
    "f981b464e9cca1b8": _mnist(0.7, 1.5, 240, 0.25, 45),  # results/opacus-table
    "d8c600543b684c2a": _mnist(1.3, 1.5, 256, 0.25, 15, seed=9),
    "63b08dab6fd016d9": _mnist(1.3, 1.5, 240, 0.25, 15, sampling="shuffle"),
    "bfae7482352daa38": _mnist(1.3, 1.5, 240, 0.25, 15, engine="opacus-hooks"),
    "9f269cbe05a92bbc": _mnist(None, None, 240, 0.1, 20),
    "abf58bb9817b1afb": _mnist(0.0, 0.25, 64, 0.125, 10, validation_examples=5000),
    "4391e6bbf310257a": _mnist(
        None, None, 64, 0.05, 15, engine="fused-non-private", validation_examples=5000
    ),
    "21c59f14b4c4c4fd": _mnist(1.0, 1.0, 64, 0.1, 1, engine="bookkeeping", momentum=0.9),
    "be3eb9fb8fd1bb45": _mnist(1.0, 1.0, 64, 0.1, 1, engine="opacus-ghost", dataset="digits"),
    "d43924ed2f7e5aa8": _mnist(1.0, 1.0, 64, 0.1, 1, engine="opacus-ew", delta=1e-6),
    "ccf70c596ee4a55c": _mnist(1.0, 1.0, 64, 0.1, 1, engine="opacus-functorch", seed=2**40),
}


@pytest.mark.parametrize(("trial_id", "fields"), IDS.items(), ids=IDS.keys())
def test_ids_of_published_trials_never_change(trial_id: str, fields: dict[str, Any]) -> None:
    assert Trial(**fields).trial_id == trial_id


@pytest.mark.parametrize("results", ["mnist-quick", "opacus-table"])
def test_every_published_row_has_the_id_of_its_fields(results: str) -> None:
    columns = [field.name for field in dataclasses.fields(Trial)]
    rows = store.load(RESULTS / results, "trials", ["trial_id", *columns]).to_pylist()
    assert len(rows) > 20
    for row in rows:
        assert Trial(**{name: row[name] for name in columns}).trial_id == row["trial_id"]


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


def test_adam_has_a_momentum_of_its_own() -> None:
    with pytest.raises(BadInput, match=r"momentum=0.9 to be 0 with optimizer='adam'"):
        make_trial(optimizer="adam", momentum=0.9)


def test_a_trial_names_what_is_not_the_default() -> None:
    assert "adam automatic" in str(
        make_trial("bookkeeping", optimizer="adam", clipping="automatic")
    )
    assert "sgd" not in str(make_trial())
    assert "flat" not in str(make_trial())


def test_clipping_belongs_to_private_engines() -> None:
    with pytest.raises(BadInput, match="to be flat for the non-private engine"):
        make_trial("non-private", clipping="automatic")
