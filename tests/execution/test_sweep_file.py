"""A sweep file holds every flag of `dpbench sweep`, under the flag's name."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from factories import ROOT

from dpbench import cli, datasets, flag_names, sweep
from dpbench.errors import BadInput
from dpbench.execution import grid, grid_trials, sweep_file

SMALL = "noise_multiplier = 1\nmax_grad_norm = 1\nbatch_size = 64\nepochs = 1\nbaseline = false\n"


def flags() -> list[tuple[str, argparse.Action]]:
    """Every flag of the command, but those that print and end."""
    actions = [each for each in sweep._parser("x")._actions if each.option_strings]
    return [
        (flag, action)
        for action in actions
        if action.dest not in ("help", "version", argparse.SUPPRESS)
        for flag in action.option_strings
        if flag.startswith("--")
    ]


def value_of(action: argparse.Action) -> Any:
    """What the flag can take, as TOML has it."""
    if action.nargs == 0:
        return True
    axis = grid.AXES.get(action.dest)
    if axis is not None and axis.choices:
        return axis.choices[-1]
    return {
        "dataset": "digits",
        "device": "cpu",
        "scheduler": "tcp://h:1",
        "model_args": "width=3",
        "search_method": "optuna",
    }.get(action.dest, 3)


def given_by(text: str, typed: list[str], path: Path) -> dict[str, Any]:
    """What the file and the flags come to, axes of the top level included."""
    path.write_text(text, encoding="utf-8")
    parser = sweep._parser("x")
    read = sweep_file.read(path, parser.keys)
    given = parser.with_settings(read.settings, typed, path)
    axes = {name: grid.AXES[name].parsed(value) for name, value in read.axes.items()}
    return vars(given) | axes


def test_there_are_flags_to_test() -> None:
    assert len(flags()) > 40


@pytest.mark.parametrize(("flag", "action"), flags(), ids=[flag for flag, _ in flags()])
def test_every_flag_is_a_key(flag: str, action: argparse.Action, tmp_path: Path) -> None:
    value, key = value_of(action), flag_names.key(flag)
    typed = [flag] if action.nargs == 0 else [flag, str(value)]
    by_flag = vars(sweep._parser("x").parse_args(typed))
    if axis := grid.AXES.get(action.dest):
        by_flag[axis.name] = axis.parsed(by_flag[axis.name])
    by_file = given_by(f"{key} = {json.dumps(value)}\n", [], tmp_path / "one.toml")
    assert by_file == by_flag
    assert by_file != vars(sweep._parser("x").parse_args([])) or value == action.default


@pytest.mark.parametrize("alias", [each for names in flag_names.ALIASES.values() for each in names])
def test_every_short_name_is_a_key(alias: str, tmp_path: Path) -> None:
    value = '"adam"' if alias == "--optim" else "3"
    found = given_by(f"{flag_names.key(alias)} = {value}\n", [], tmp_path / "one.toml")
    assert found != vars(sweep._parser("x").parse_args([]))


def test_a_flag_overrides_the_file(tmp_path: Path) -> None:
    text = 'jobs = 3\ndevice = ["cuda:0", "cuda:1"]\nretry_failed = false\n'
    found = given_by(text, ["--jobs", "2"], tmp_path / "two.toml")
    assert found["jobs"] == 2
    assert found["device"] == ["cuda:0", "cuda:1"]
    assert found["retry_failed"] is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs = 'two'", "bad.toml: argument --jobs: invalid int value: 'two' (see --help)"),
        ("jobs = [1, 2]", "bad.toml: jobs takes one value, not 1 2 (see --help)"),
        ("jobs = true", "bad.toml: Expected jobs=True to be what --jobs takes."),
        ("no_timing = 1", "bad.toml: Expected no_timing=1 to be true or false."),
    ],
)
def test_a_bad_value_names_its_file(
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        sweep.main(["bad.toml", "--dry-run"], prog="x")
    assert ended.value.code == cli.EXIT_USAGE
    assert capsys.readouterr().err == f"x: {message}\n"


def test_the_axes_of_a_file_may_be_ranges_and_shares(tmp_path: Path) -> None:
    path = tmp_path / "ranges.toml"
    text = 'noise_multiplier = "1:2:0.5"\nseeds = [0, "2:4:1"]\nvalidation = "10%"\n'
    path.write_text(text, encoding="utf-8")
    (one,) = sweep_file.read(path).grids({})
    assert one.noise_multiplier == (1.0, 1.5, 2.0)
    assert one.seed == (0, 2, 3, 4)
    assert one.with_defaults("digits").validation_examples == 144  # of 1,437
    assert one.with_defaults("mnist").validation_examples == 6000


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    (one,) = sweep_file.read(path).grids({})
    assert one.batch_size == (64,)


@pytest.mark.parametrize("value", ["10%", "0.1", 0.1, "144", 144])
def test_held_out_examples_are_a_number_or_a_share(value: Any) -> None:
    trials = grid_trials.trials(
        [grid.grid({"validation_examples": value, "epochs": 1, "noise_multiplier": 1})], "digits"
    )
    assert {trial.validation_examples for trial in trials} == {144}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("110%", "validation_examples=1.1 to be a whole number"),
        (1.5, "validation_examples=1.5 to be a whole number"),
        ("ten", "validation_examples='ten' to be a whole number"),
        (-0.5, "validation_examples=-0.5 to be a whole number"),
    ],
)
def test_a_share_that_is_none_is_named(value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        grid.grid({"validation_examples": value})


def test_a_reference_with_a_colon_is_no_range() -> None:
    axis = grid.AXES["optimizer"]
    with pytest.raises(BadInput, match=r"'mine,too\.py:make'"):
        axis.parsed("mine,too.py:make")
    assert axis.parsed("sgd,adam") == ("sgd", "adam")
    assert axis.parsed(["SGD", "Adam"]) == ("sgd", "adam")


def test_no_clipping_norm_is_infinite() -> None:
    with pytest.raises(BadInput, match=r"such as 1e6, with noise_multiplier 0, or train without"):
        grid.grid({"max_grad_norm": "inf"})


@pytest.mark.parametrize("name", ["MNIST", "mnist", "Mnist"])
def test_a_dataset_is_understood_in_any_case(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.toml"
    path.write_text(f'{SMALL}dataset = "{name}"\nno_timing = true\ndry_run = true\n')
    assert sweep.main([str(path), "--device", "cpu"]) == 0
    assert "trial (mnist)" in capsys.readouterr().out


def test_more_trials_at_a_time_than_cores_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.toml"
    path.write_text(f'{SMALL}dataset = "digits"\njobs = 1000\nno_timing = true\ndevice = "cpu"\n')
    assert sweep.main([str(path), "--dry-run", "--json"]) == 0
    said = capsys.readouterr()
    assert "Warning: jobs=1000 with 1 thread each on " in said.err
    assert json.loads(said.out)["warnings"][-1] in said.err
    assert sweep.main([str(path), "--dry-run", "--jobs", "1"]) == 0
    assert "Warning: jobs" not in capsys.readouterr().err


def test_the_first_recipe_of_readme_fits_the_dataset_that_stands_in() -> None:
    """It held out 5,000 examples of the 1,437 that digits have."""
    page = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    recipe = next(each for each in page.splitlines() if "dpbench sweep" in each and "--val" in each)
    given = sweep._parser("x").parse_args(recipe.split()[2:])
    flags = {name: getattr(given, name) for name in grid.AXES if name != "model"}  # built-in ones
    asked = grid.grid({name: value for name, value in flags.items() if value is not None})
    for dataset in ("mnist", "digits"):
        held_out = int(asked.with_defaults(dataset).validation_examples)
        assert 0 < held_out < datasets.train_examples(dataset, held_out)
