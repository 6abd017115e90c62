"""The gates' command line, and the check that none has disappeared."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench import gates, sweeps
from dpbench import datasets

HERE = Path(__file__).parent
_GONE = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--short", action="store_true", help="gates: fewer pairs in the first look")
    parser.addoption(
        "--measured",
        action="store_true",
        help="gates: print what steps cost beside what is expected",
    )


@pytest.hookimpl(trylast=True)  # after -m and --deselect
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Notes the limits that no gate claims, where all of bench/ was asked for."""
    whole = any(Path(each.partition("::")[0]).resolve() == HERE for each in config.args)
    if not whole or "::" in "".join(config.args) or config.option.keyword:
        return
    claimed = {marker.args[0] for item in items for marker in item.iter_markers("gate")}
    config.stash[_GONE] = sorted(set(gates.keys()) - claimed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    gone = terminalreporter.config.stash.get(_GONE, [])
    for key in gone:
        terminalreporter.write_line(f"GATE DISAPPEARED {key}: no test claims it", red=True)
    if terminalreporter.config.option.measured:
        for key, measured in _measured(terminalreporter):
            terminalreporter.write_line(f"{key}: {measured}")


def _measured(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple[str, str]]:
    """The names of the limits that steps were held to, and what was measured."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            found = dict(getattr(report, "user_properties", ()))
            if report.when == "call" and "measured" in found:
                yield report.nodeid.partition("[")[2].rstrip("]"), found["measured"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash.get(_GONE, []) and session.exitstatus in (0, 5):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The data root that DPBENCH_DATA names."""
    root = Path(os.environ.get("DPBENCH_DATA", "nowhere"))
    if not datasets.present("mnist", root):
        pytest.skip("DPBENCH_DATA names no folder with MNIST")
    return root


@pytest.fixture(scope="session")
def mnist_sweep(mnist_root: Path) -> sweeps.Swept:
    """A short sweep of the default engine on MNIST; two gates look at it."""
    return sweeps.sweep_mnist(mnist_root)


@pytest.fixture(scope="session")
def pairs(request: pytest.FixtureRequest) -> int:
    """Of a gate's first look."""
    return gates.SHORT_LOOK if request.config.getoption("--short") else gates.FIRST_LOOK
