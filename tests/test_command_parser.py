"""What a command line forgives, what it says where it does not, and its help."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dpbench import __main__, cli, command_parser, flag_names, sweep
from dpbench.execution import grid

COMMANDS = list(__main__.COMMANDS)


def parser(name: str = "sweep") -> cli.Parser:
    made = importlib.import_module(f"dpbench.{name}")._parser(f"dpbench {name}")
    assert isinstance(made, cli.Parser)
    return made


def said(arguments: str, capsys: pytest.CaptureFixture[str], name: str = "sweep") -> str:
    """The line with which the command line is refused."""
    with pytest.raises(SystemExit) as ended:
        parser(name).parse_args(arguments.split())
    assert ended.value.code == cli.EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix(f"dpbench {name}: ")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("--lr", "learning_rate"),
        ("--clip", "max_grad_norm"),
        ("--sigma", "noise_multiplier"),
        ("--noise", "noise_multiplier"),
        ("--noise_multiplier", "noise_multiplier"),
        ("--epsilon", "target_epsilon"),
        ("--eps", "target_epsilon"),
        ("--bs", "batch_size"),
        ("--optim", "optimizer"),
        ("--val", "validation_examples"),
        ("--workers", "jobs"),
        ("--seed", "seed"),
    ],
)
def test_short_names_work(typed: str, name: str) -> None:
    for arguments in ([typed, "7"], [f"{typed}=7"]):
        value = getattr(parser().parse_args(arguments), name)
        assert value in (["7"], "7", 7)


def test_short_names_work_in_every_command_that_has_the_flag() -> None:
    for name in COMMANDS:
        known = parser(name)
        for flag, aliases in flag_names.ALIASES.items():
            for alias in aliases if flag in known._option_string_actions else ():
                assert known._known(alias) == flag
                assert alias in known.format_help_all()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--noise-multipler 1", "--noise-multipler (did you mean --noise-multiplier?)"),
        ("--noise-mult 1", "Unknown flag --noise-mult (did you mean --noise-multiplier?)"),
        ("--epoch 1", "Unknown flag --epoch (did you mean --epochs?)"),
        ("--modle mlp", "Unknown flag --modle (did you mean --model?)"),
        ("--foo 1", "Unknown flag --foo (see --help)"),
        ("--network 1", "Unknown flag --network (the usual name for --model)"),
        ("--gpus 1", "Unknown flag --gpus (Lightning's name for --device)"),
        ("--l2_norm_clip 1", "--l2_norm_clip (TensorFlow Privacy's name for --max-grad-norm)"),
        ("--epochs 10 20", "--epochs takes one value, not 10 20 (see --help)"),
        ("--dataset digits mnist", "--dataset takes one value, not digits mnist (see --help)"),
        ("--jobs 1,2", "argument --jobs: invalid int value: '1,2' (see --help)"),
        ("--json --quiet", "argument --quiet: not allowed with argument --json (see --help)"),
    ],
)  # fmt: skip
def test_a_near_miss_is_one_line(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(arguments, capsys).removeprefix("Unknown flag ") == expected.removeprefix(
        "Unknown flag "
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_no_hint_is_better_than_a_far_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was asked of the first edition got `--version`, `--help`, `--jobs` and `--out`."""
    positional = [each for each in parser(name)._actions if not each.option_strings]
    needed = [next(iter(each.choices or "x")) for each in positional]
    for word in ("--zzz", "--foo", "--bz", "--verbosity-of"):
        line = said(" ".join([*needed, word]), capsys, name)
        assert line == f"Unknown flag {word} (see --help)"


def test_each_foreign_name_is_of_a_flag_of_the_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    known = parser()._option_string_actions
    for name, (owner, flag) in flag_names.FOREIGN.items():
        assert name not in known
        assert flag in known
        assert f"({owner} name for {flag})" in said(f"{name} 1", capsys)
    for flag in flag_names.ALIASES:
        assert flag in known


def test_a_sweep_file_may_stand_behind_a_flag_of_many_values() -> None:
    given = parser().parse_args("--noise-multiplier 1 2 mine.toml --epochs 3".split())
    assert given.file == Path("mine.toml")
    assert given.noise_multiplier == ["1", "2"]


def test_a_file_that_is_there_is_no_second_value(tmp_path: Path) -> None:
    named = tmp_path / "20"
    named.touch()
    assert parser().parse_args(["--epochs", "10", str(named)]).file == named


def test_a_second_word_is_no_value_where_the_command_takes_one() -> None:
    assert parser("check").parse_args("--dataset digits mlp".split()).model == "mlp"
    given = parser("compare").parse_args("--tolerance 0.1 before after".split())
    assert (given.before, given.after) == (Path("before"), Path("after"))


@pytest.mark.parametrize(
    ("name", "arguments", "field", "expected"),
    [
        ("epsilon", "--noise 0.5:1.5:0.5", "noise_multiplier", [0.5, 1.0, 1.5]),
        ("epsilon", "--epsilon 1,3 8", "target_epsilon", [1.0, 3.0, 8.0]),
        ("timing", "--batch-size 64,128", "batch_size", [64, 128]),
        ("report", "x --answer-at 1,2", "answer_at", [1.0, 2.0]),
        ("sweep", "--answer-at 1:3:1", "answer_at", [1.0, 2.0, 3.0]),
    ],
)
def test_numbers_are_lists_and_ranges_in_every_command(
    name: str, arguments: str, field: str, expected: list[float]
) -> None:
    assert getattr(parser(name).parse_args(arguments.split()), field) == expected


def test_help_of_the_sweep_is_a_screen() -> None:
    shown = parser().format_help().splitlines()
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_and_every_flag_its_default(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    known = parser(name)
    shown, whole = known.format_help(), known.format_help_all()
    assert len(shown.splitlines()) <= 48
    assert max(map(len, [*shown.splitlines(), *whole.splitlines()])) <= 80
    assert f"\n  dpbench {name} " in shown.split("examples:")[1]
    assert "\nexit codes: 0 " in whole
    assert not re.search(r"\w-\n", whole)  # a name in two parts
    for action in known._actions:
        for flag in action.option_strings:
            assert flag in whole
        if action.option_strings and action.nargs != 0 and not action.required:
            text = action.help or ""
            told = action.default is not None or "default" in text
            told = told or "instead" in text or "(or --" in text
            assert told, f"{action.option_strings[0]} does not say what holds without it"


def test_explanations_keep_their_lists_in_lines_of_a_terminal() -> None:
    item = "- " + "word " * 30
    said = f"It {'may ' * 30}be:\n{item}\n  and more\n{item}\nAnd then."
    lines = command_parser._filled(said).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("- ") for line in lines) == 2
    assert lines[-1] == "And then."
    assert " ".join(lines).split() == said.split()
    assert command_parser._filled("short\nlines") == "short\nlines"


def test_examples_of_the_help_parse_and_plan() -> None:
    for name in COMMANDS:
        known = parser(name)
        for example in known._examples:
            given = known.parse_args(example.partition("#")[0].split())
            if name == "sweep":
                flags = {axis: getattr(given, axis) for axis in grid.AXES}
                grid.grid({axis: value for axis, value in flags.items() if value is not None})


def completed(line: str) -> list[str]:
    """What a shell is told that may follow the line."""
    read, write = os.pipe()
    # argcomplete writes to descriptor 8
    program = f"import os, sys; os.dup2({write}, 8); from dpbench.__main__ import main; main()"
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
        check=True,
    )
    os.close(write)
    with os.fdopen(read) as told:
        return [each.strip() for each in told.read().split("\n")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dpbench sw", ["sweep"]),
        ("dpbench sweep --noise-m", ["--noise-multiplier"]),
        ("dpbench sweep --lr 0.1 --optimizer ", ["adam", "sgd"]),
    ],
)
def test_a_shell_completes_commands_flags_and_values(line: str, expected: list[str]) -> None:
    assert completed(line) == expected


def test_argcomplete_is_not_imported_where_no_shell_asks() -> None:
    program = "import sys; from dpbench import sweep; sweep._parser('x').parse_args([]); "
    program += "sys.exit('argcomplete' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_parser_of_each_module_is_named_as_typed() -> None:
    assert re.match(r"usage: x \[SWEEP.toml\] \[flags\]\n", sweep._parser("x").format_usage())
