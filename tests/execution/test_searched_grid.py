"""What a search draws from a grid: settings, targets and baselines."""

from pathlib import Path
from typing import Any

import pytest

from dpbench import Grid, Range, engines
from dpbench.errors import BadInput
from dpbench.execution import searched_grid
from dpbench.execution.search_plan import SearchPlan, plan

SMALL: dict[str, Any] = {"noise_multiplier": 1, "max_grad_norm": 1, "batch_size": 64, "epochs": 1}


def planned(count: int, *grids: dict[str, Any]) -> SearchPlan:
    return plan([Grid(**SMALL | each) for each in grids], "digits", count, fastest=engines.fastest)


def test_every_axis_with_several_values_is_drawn_but_seeds_engines_and_targets() -> None:
    grid = Grid(
        target_epsilon=[1, 3],
        max_grad_norm=[0.1, 1],
        batch_size=Range(64, 256),
        learning_rate=Range(0.1, 16, log=True),
        seed=[0, 1],
        engine=["fused", "bookkeeping"],
        epochs=[1, 2],
        momentum=[0.9],
        model="tutorial-cnn",
        model_args={"width": Range(16, 64), "depth": [1, 2], "bias": [True]},
    )
    assert list(searched_grid.space(grid).dimensions) == [
        *("max_grad_norm", "batch_size", "learning_rate", "model_args.depth", "model_args.width"),
        "epochs",
    ]
    noisy = Grid(noise_multiplier=Range(0.5, 2), batch_size=[64, 128])
    assert list(searched_grid.space(noisy).dimensions) == ["noise_multiplier", "batch_size"]


def test_each_setting_runs_at_every_target_and_seed() -> None:
    found = planned(
        4, {"learning_rate": Range(0.1, 16, log=True), "seed": [0, 1], "noise_multiplier": [1, 3]}
    )
    assert found.settings == 4
    assert [each.target for each in found.candidates] == [1.0, 3.0] * 4
    assert all([trial.seed for trial in each.trials] == [0, 1] for each in found.candidates)
    rates = [each.trials[0].learning_rate for each in found.candidates]
    assert rates == [0.442, 0.442, 5.59, 5.59, 1.57, 1.57, 0.124, 0.124]
    assert found.trials[: len(found.baselines)] == list(found.baselines)


def test_a_search_goes_on_from_a_smaller_one() -> None:
    axes = {"learning_rate": Range(0.1, 16, log=True), "batch_size": [64, 128]}
    small, large = planned(5, axes), planned(10, axes)
    assert large.candidates[:5] == small.candidates
    assert large.baselines == small.baselines


def test_settings_that_are_drawn_twice_count_once() -> None:
    found = planned(16, {"batch_size": [64, 128], "max_grad_norm": [0.5, 1]})
    assert found.settings == 4
    assert "16 settings drawn, 4 of them distinct: 4 trials" in found.sentence


def test_each_grid_has_settings_of_its_own() -> None:
    rates = {"learning_rate": Range(0.1, 16, log=True)}
    found = planned(2, rates, rates | {"batch_size": 128})
    assert [each.trials[0].batch_size for each in found.candidates] == [64, 64, 128, 128]


def test_the_sentence_says_what_is_drawn_of_several_grids() -> None:
    rates = {"learning_rate": Range(0.1, 16, log=True)}
    noises = [rates | {"noise_multiplier": noise, "baseline": False} for noise in ([1, 2], [4])]
    assert planned(8, *noises).sentence == (
        "Search: 8 settings drawn from each of 2 grids, each at the targets of its grid: 24 trials."
    )
    sizes = {"batch_size": [64, 128], "noise_multiplier": [1, 2]}
    assert planned(8, rates | sizes, sizes).sentence == (
        "Search: 8 settings drawn from each of 2 grids, 10 of them distinct, each at 2 targets: "
        "20 trials and 3 non-private baselines."
    )


def test_no_setting_is_compared_with_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """That would take a minute of 16,000 settings."""
    grid = Grid(**SMALL | {"learning_rate": Range(0.1, 16, log=True), "max_grad_norm": [1, 2]})
    with monkeypatch.context() as patched:
        patched.setattr(Grid, "__eq__", lambda *_: pytest.fail("settings are compared"))
        found = searched_grid.settings(grid, 512)
    assert 256 < len({repr(each) for each in found}) == len(found)


def test_early_stopping_compares_settings_of_like_batch_sizes() -> None:
    rates = {"learning_rate": Range(0.1, 16, log=True)}
    found = planned(2, *({**rates, "batch_size": size} for size in (64, 100, 128)))
    assert [each.group for each in found.candidates[:4]] == [found.candidates[0].group] * 4
    assert len({each.group for each in found.candidates}) == 2


def test_the_baselines_are_of_the_smallest_batch_and_the_most_epochs() -> None:
    found = planned(
        3,
        {
            "batch_size": Range(64, 256, log=True),
            "epochs": [2, 5],
            "learning_rate": Range(0.1, 16, log=True),
            "model": ["mlp", "logistic"],
        },
    )
    shared = {(trial.batch_size, trial.epochs, trial.model) for trial in found.baselines}
    assert shared == {(64, 5, "mlp"), (64, 5, "logistic")}
    assert {trial.learning_rate for trial in found.baselines} == {0.025, 0.05, 0.1}
    assert not any(trial.private for trial in found.baselines)
    assert planned(3, {"batch_size": [64, 128], "baseline": False}).baselines == ()


def test_arguments_are_drawn_for_the_users_models_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def make(width: int = 4): ...\n")
    grid = Grid(**SMALL, model=[f"{file}:make", "mlp"], model_args={"width": Range(4, 64)})
    for setting in searched_grid.settings(grid, 8):
        assert (setting.model_args is None) == (setting.model == ("mlp",))


def test_the_noise_of_a_short_rung_is_solved_for_all_epochs() -> None:
    grid = Grid(
        target_epsilon=[3],
        max_grad_norm=[1],
        batch_size=[256],
        epochs=[20, 10],
        validation_examples=0.1,
    )
    found = plan([grid], "digits", 2, early_stop=True, fastest=engines.fastest)
    one, other = found.candidates
    assert found.rungs == 3
    for candidate in (one, other):
        (whole,) = candidate.trials
        short, longer, longest = (found.of_rung(rung, [candidate])[0] for rung in range(3))
        assert (short.epochs, longer.epochs) == (1, whole.epochs // 4)
        assert longest == whole
        assert short.noise_seed == whole.noise_seed
    assert one.group == other.group
    assert one.trials[0].noise_multiplier != other.trials[0].noise_multiplier


@pytest.mark.parametrize(
    ("count", "axes", "message"),
    [
        (0, {"batch_size": [64, 128]}, "search=0 to be a number of settings, 1 to 100,000"),
        (True, {"batch_size": [64, 128]}, "search=True to be a number of settings"),
        (3, {}, "something to search with search=3: an axis with several values, or a range"),
    ],
)
def test_a_bad_search_is_named(count: Any, axes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        planned(count, axes)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"seed": Range(0, 5)}, "seed to be values, not the range 0:5: no search draws it"),
        ({"target_epsilon": "1:3"}, "target_epsilon to be values, not the range 1:3"),
        ({"learning_rate": ["0.1:16", 3]}, "learning_rate to be one range or values, not both"),
        ({"batch_size": "16.5:64"}, "batch_size=16.5 to be a whole number"),
        ({"model_args": "width=64:16"}, "In model_args width: .* low=64 < high=16"),
    ],
)
def test_a_bad_axis_of_a_search_is_named(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Grid(**axes)


@pytest.mark.parametrize("name", ["noise_multiplier", "learning_rate", "momentum", "epochs"])
def test_a_range_without_a_search_says_what_to_do(name: str) -> None:
    from dpbench.execution import grid_trials

    axes = SMALL | {name: Range(1, 2) if name != "momentum" else Range(0.1, 0.9)}
    with pytest.raises(BadInput, match=rf"{name} to be values, not the range .* --search N how"):
        grid_trials.trials([Grid(**axes)], "digits")
