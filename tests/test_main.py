"""`dpbench COMMAND` and `python -m dpbench COMMAND`."""

import importlib
import subprocess
import sys
import tomllib

import pytest
from factories import ROOT

import dpbench
from dpbench.__main__ import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_subcommand(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: dpbench {name} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_its_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"dpbench.{name}").main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"dpbench {dpbench.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_without_a_command_all_are_listed(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, text in COMMANDS.items():
        assert [line for line in lines if line.split() == [name, *text.split()]]


def test_the_version_and_a_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dpbench {dpbench.__version__}\n"
    assert main(["epsilom"]) == 2
    said = capsys.readouterr().err
    assert said == "dpbench: Unknown command 'epsilom': did you mean epsilon?\n"


def test_the_package_is_a_command_and_errors_name_it() -> None:
    run = [sys.executable, "-m", "dpbench", "epsilon", "--sample-rate", "0.01", "--steps", "10"]
    done = subprocess.run(
        [*run, "--noise-multiplier", "1"], capture_output=True, text=True, check=True
    )
    assert "noise multiplier 1" in done.stdout
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("python -m dpbench epsilon: Expected one of --noise-multiplier")


def test_there_is_one_console_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"dpbench": "dpbench.__main__:main"}
