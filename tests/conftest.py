"""Fixtures that several files share."""

import os
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import here
import pytest
import torch
from factories import ROOT
from filelock import FileLock

from dpbench.datasets import Data, loading


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests are slow tests, too."""
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def interrupts_are_heard() -> None:
    """A shell's background job ignores Ctrl-C, and so would every program that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def digits() -> Data:
    return loading.load("digits", Path("unused"), "cpu")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The data root that DPBENCH_DATA names; a folder that is not there where none is named."""
    return Path(os.environ.get("DPBENCH_DATA", "nowhere"))


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The data root that DPBENCH_DATA names; skips where none is named."""
    if "DPBENCH_DATA" not in os.environ:
        pytest.skip("DPBENCH_DATA does not name a data root with MNIST")
    return Path(os.environ["DPBENCH_DATA"])


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all of pytest-xdist's processes."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def quick(shared: Path) -> Path:
    """A copy of results/mnist-quick with a new report, its figures empty, and what that prints."""
    from dpbench import report

    root = shared / "mnist-quick"
    with FileLock(f"{root}.lock"):
        if not (root / "printed.txt").exists():
            shutil.copytree(ROOT / "results" / "mnist-quick", root)
            for path in (*root.glob("*.csv"), root / "report.html"):
                path.unlink()
            with here.blank_figures():
                printed = here.run(report.main, str(root), cwd=shared).stdout
            (root / "printed.txt").write_text(printed, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def rendered(shared: Path) -> Callable[[Callable[[Path], Path]], Path]:
    """A store of `stores` with its report, made once for all of pytest-xdist's processes."""

    @cache
    def render(make: Callable[[Path], Path]) -> Path:
        from dpbench import report

        root = shared / f"rendered-{make.__module__}-{make.__name__}"
        with FileLock(f"{root}.lock"):
            if not (root / "report.html").exists():
                make(root)
                assert report.main([str(root), "--quiet"]) == 0
        return root

    return render
