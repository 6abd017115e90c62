from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dpbench.errors import BadInput
from dpbench.execution import grid, grid_trials, sweep_file

SMALL: Mapping[str, Any] = {
    "noise_multiplier": [0.7, 1.1],
    "max_grad_norm": [0.5, 1.0],
    "batch_size": [64],
    "epochs": 2,
}


def test_a_grid_is_the_product_of_its_axes_and_a_baseline_for_each_batch_size() -> None:
    trials = grid_trials.trials([grid.grid({"batch_size": [64, 128]}, SMALL)], "digits")
    baselines = [trial for trial in trials if not trial.private]
    assert [(trial.batch_size, trial.learning_rate) for trial in baselines] == [
        *((64, rate) for rate in (0.025, 0.05, 0.1)),
        *((128, rate) for rate in (0.05, 0.1)),
    ]
    assert {trial.engine for trial in baselines} == {"fused-non-private"}
    assert len(trials) == len(baselines) + 2 * 2 * 2
    assert trials[: len(baselines)] == baselines
    assert len({trial.trial_id for trial in trials}) == len(trials)


def test_a_learning_rate_or_a_non_private_engine_that_is_named_is_the_baselines() -> None:
    """As it has always been, so that such sweeps are resumed and not run again."""
    for layer, engines, rates in (
        ({"learning_rate": [0.3, 0.6]}, {"non-private"}, {0.3, 0.6}),
        ({"engine": ["fused", "non-private"]}, {"non-private"}, {0.1}),
        ({"engine": ["fused-non-private"]}, {"non-private", "fused-non-private"}, {0.1}),
    ):
        trials = grid_trials.trials([grid.grid(layer, SMALL)], "digits")
        baselines = [trial for trial in trials if not trial.private]
        assert {trial.engine for trial in baselines} == engines
        assert {trial.learning_rate for trial in baselines} == rates
    (old,) = grid_trials.trials([grid.grid({"engine": "non-private"}, SMALL)], "digits")
    assert old.trial_id == "839c93f250ec63e6"


def test_models_are_an_axis_and_the_default_is_the_datasets() -> None:
    default = grid_trials.trials([grid.grid(SMALL)], "digits")
    assert {trial.model for trial in default} == {"tutorial-cnn"}
    both = grid_trials.trials([grid.grid({"model": ["tutorial-cnn", "mlp"]}, SMALL)], "digits")
    assert len(both) == 2 * len(default)
    assert set(default) < set(both)  # an axis changes no trial of the others


def test_a_model_that_cannot_take_the_datasets_images_is_named() -> None:
    merged = grid.grid({"model": ["mlp", "tutorial-cnn"]}, SMALL)
    with pytest.raises(BadInput, match="Cannot train model=tutorial-cnn on dataset=cifar10"):
        grid_trials.trials([merged], "cifar10")


def test_the_first_layer_that_names_an_axis_wins() -> None:
    merged = grid.grid({"epochs": 7}, {"epochs": 5, "seed": [3]}, SMALL)
    assert merged.epochs == 7
    assert merged.seed == (3,)
    assert merged.noise_multiplier == (0.7, 1.1)


def test_a_target_epsilon_takes_the_place_of_noise_in_lower_layers() -> None:
    merged = grid.grid({"target_epsilon": 3}, SMALL)
    assert merged.target_epsilon == (3.0,)
    assert merged.noise_multiplier is None
    noises = {t.noise_multiplier for t in grid_trials.trials([merged], "digits") if t.private}
    assert len(noises) == 1


def test_a_union_runs_each_trial_once() -> None:
    both = [grid.grid(SMALL), grid.grid({"noise_multiplier": 1.1}, SMALL)]
    assert grid_trials.trials(both, "digits") == grid_trials.trials(both[:1], "digits")


def test_clip_only_and_baseline_only() -> None:
    clip_only = grid.grid({"noise_multiplier": 0, "baseline": False}, SMALL)
    assert {trial.noise_multiplier for trial in grid_trials.trials([clip_only], "digits")} == {0.0}
    baseline_only = grid.grid({"engine": "non-private"}, SMALL)
    assert [trial.private for trial in grid_trials.trials([baseline_only], "digits")] == [False]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"noise_multiplier": []}, r"noise_multiplier to hold at least one value"),
        ({"batch_size": []}, r"batch_size to hold at least one value"),
        ({"seed": [1, 2, 1]}, r"each seed once, not 1 twice"),
        ({"noise_multiplier": [1, 1.0]}, r"each noise_multiplier once, not 1.0 twice"),
        (
            {"noise_multiplier": 1, "target_epsilon": 1},
            r"or target_epsilon, not both: the noise is solved for",
        ),
        ({"batch_size": 64.5}, r"batch_size=64.5 to be a whole number"),
        ({"epochs": "ten"}, r"epochs='ten' to be a whole number"),
        ({"baseline": 1}, r"baseline=1 to be true or false"),
        ({"engine": "opacus-hook"}, r"'opacus-hook': did you mean opacus-hooks\?"),
        ({"model": "mpl"}, r"Unknown model 'mpl': did you mean mlp\?"),
        ({"delta": "small"}, r"delta='small' to be a number"),
    ],
)
def test_a_bad_grid_is_named(layer: Mapping[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        grid.grid(layer, SMALL)


def test_a_sweep_file_may_tie_axes(tmp_path: Path) -> None:
    path = tmp_path / "tied.toml"
    path.write_text(
        'dataset = "digits"\nepochs = 1\n'
        "[[grid]]\nbatch_size = 64\nlearning_rate = 0.1\n"
        "[[grid]]\nbatch_size = 256\nlearning_rate = 0.4\n"
    )
    read = sweep_file.read(path)
    assert read.settings == {"dataset": "digits"}
    assert read.axes == {"epochs": 1}
    pairs = {(t.batch_size, t.learning_rate) for t in grid_trials.trials(read.grids({}), "digits")}
    assert pairs == {(64, 0.1), (256, 0.4)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nois_multiplier = 1", r"'nois_multiplier' in .*: did you mean noise_multiplier\?"),
        ("[[grid]]\nbatch-size = 1", r"'batch-size' in .*: did you mean batch_size\?"),
        (
            "[[grid]]\nconfirm = 1",
            r"'confirm' in a \[\[grid\]\] of .*: .* above the first \[\[grid\]\]",
        ),
        ("seed = 1\nseeds = 2", r"Expected seed or seeds in .*, not both"),
        ("[[grid]]\nl2_norm_clip = 1", r"TensorFlow Privacy's name for max_grad_norm"),
        (
            "epochs = [1, 2]",
            r"one value of epochs, not 1, 2: for several, give each a \[\[grid\]\]",
        ),
        ("zzz = 1", r"'zzz' in .*; the keys are the flags of `dpbench sweep --help-all`"),
        ("epochs = ", r"is not TOML"),
        ("grid = 3", r"one or more \[\[grid\]\] tables"),
    ],
)
def test_a_bad_sweep_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        grid_trials.trials(sweep_file.read(path).grids({}), "digits")


def test_a_sweep_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere.toml: No such file"):
        sweep_file.read(tmp_path / "nowhere.toml")
