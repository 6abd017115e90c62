from pathlib import Path

import pytest
import torch

from dpbench import datasets, models
from dpbench.datasets import digits, loading
from dpbench.errors import BadInput
from dpbench.execution import grid, grid_trials

every_dataset = pytest.mark.parametrize("name", datasets.names())


def test_steps_and_sample_rate_are_what_was_asked() -> None:
    # Opacus' own loader makes 235 batches of rate 1/235 of this; here it stays 256 of 60,000.
    assert datasets.steps_per_epoch("mnist", 256) == 234
    assert datasets.sample_rate("mnist", 256) == 256 / 60_000


def test_a_batch_larger_than_the_dataset_is_named() -> None:
    with pytest.raises(BadInput, match="batch_size=2000 <= 1,437"):
        datasets.steps_per_epoch("digits", 2000)


def test_an_unknown_dataset_is_named() -> None:
    with pytest.raises(BadInput, match=r"Unknown dataset 'kmnis': did you mean kmnist\?"):
        datasets.spec("kmnis")


def test_files_are_found_packed_or_unpacked(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    names = [f"{part}-idx3-ubyte" for part in ("train-images", "t10k-images")]
    names += [f"{part}-idx1-ubyte" for part in ("train-labels", "t10k-labels")]
    for name in names[:3]:
        (raw / f"{name}.gz").touch()
    assert not datasets.present("mnist", tmp_path)
    (raw / names[3]).touch()
    assert datasets.present("mnist", tmp_path)
    assert datasets.present("digits", tmp_path / "nowhere")


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    rows, (images, labels) = digits._rows(), load_digits(return_X_y=True)
    assert (rows[:, :64] == images).all()
    assert (rows[:, 64] == labels).all()


@every_dataset
def test_a_spec_agrees_with_itself(name: str) -> None:
    spec = datasets.spec(name)
    assert (spec.vocabulary is not None) == (spec.kind == "tokens")
    if spec.kind == "tokens":
        assert (spec.mean, spec.std, spec.preprocessing) == ((), (), None)
    else:
        assert len(spec.mean) == len(spec.std) == spec.input_shape[0]
        assert spec.preprocessing is not None
        assert spec.preprocessing.endswith(f", {spec.origin}.")
    models.refuse(spec.model, name)  # raises where its default model cannot take its inputs
    if spec.stands_in_for is not None:
        assert datasets.stand_in(spec.stands_in_for) == name
        assert spec.source.present(Path("nowhere"))
        assert datasets.spec(spec.stands_in_for).input_shape == spec.input_shape


@every_dataset
def test_its_default_sweep_is_large_enough(name: str) -> None:
    default = grid.grid(grid.defaults(name))
    assert len(default.values("noise_multiplier")) >= 3
    assert len(default.values("max_grad_norm")) >= 3
    assert len(default.values("batch_size")) >= 2
    trials = grid_trials.trials([default], name)
    assert {trial.model for trial in trials} == {datasets.spec(name).model}
    assert {trial.private for trial in trials} == {True, False}


@every_dataset
def test_prepared_inputs_have_its_shape_and_about_unit_size(name: str) -> None:
    spec = datasets.spec(name)
    inputs, targets = loading.random(name, 50, "cpu").batch(torch.arange(50))
    assert inputs.shape == (50, *spec.input_shape)
    assert 0 <= int(targets.min()) <= int(targets.max()) < spec.classes
    if spec.vocabulary is not None:
        assert inputs.dtype == torch.int64
        assert 0 <= int(inputs.min()) <= int(inputs.max()) < spec.vocabulary
        return
    assert inputs.dtype == torch.float32
    assert float(inputs.abs().mean()) == pytest.approx(1, abs=0.3)


@every_dataset
def test_pixels_are_normalised_channel_by_channel(name: str) -> None:
    spec = datasets.spec(name)
    if spec.kind != "pixels":
        return
    normalise = loading.normalising(spec, "cpu")
    assert normalise is not None
    black, white = (
        normalise(torch.full((1, *spec.input_shape), pixel)).flatten(2) for pixel in (0, 255)
    )
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        assert black[0, channel, 0] == pytest.approx(-mean / std)
        assert white[0, channel, 0] == pytest.approx((1 - mean) / std)


def test_no_dataset_is_normalised_by_anothers_constants() -> None:
    specs = {name: datasets.spec(name) for name in datasets.names() if name != "digits"}
    constants = [spec.mean for spec in specs.values() if spec.mean]
    assert len(set(constants)) == len(constants)
    # digits stand in for MNIST, and trials of theirs are published
    assert "come from another dataset (MNIST)" in str(datasets.spec("digits").preprocessing)


@every_dataset
def test_a_dataset_that_is_there_is_what_its_spec_says(name: str, data_root: Path) -> None:
    if not datasets.present(name, data_root):
        pytest.skip(f"{name} is not under DPBENCH_DATA")
    spec, data = datasets.spec(name), loading.load(name, data_root, "cpu")
    for (inputs, targets), examples in (
        (data.train, spec.train_examples),
        (data.test, spec.test_examples),
    ):
        assert inputs.shape == (examples, *spec.input_shape)
        assert targets.unique().tolist() == list(range(spec.classes))
    if "were computed from the training set" in spec.origin:
        inputs = data.prepared(data.train[0]).transpose(0, 1).flatten(1)  # [C or features, ...]
        assert inputs.mean(dim=1).abs().max() < 2e-3
        assert (inputs.std(dim=1, correction=0) - 1).abs().max() < 2e-3
