import shutil
import subprocess
from pathlib import Path

import pytest

from dpbench import environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a git checkout of its own."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(environment, "_PACKAGE", package)
    environment.commit.cache_clear()
    return package


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = [str(shutil.which("git")), *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def commit_now() -> str | None:
    environment.commit.cache_clear()
    return environment.commit()


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_the_commit_is_that_of_the_package_with_a_dirty_mark(checkout: Path) -> None:
    assert commit_now() is None
    git(checkout.parent, "init", "-q")
    assert commit_now() is None  # inside a checkout, but no part of it, as in its .venv
    git(checkout.parent, "add", ".")
    git(checkout.parent, "commit", "-q", "-m", "one")
    head = git(checkout, "rev-parse", "HEAD")[:12]
    assert commit_now() == head
    (checkout.parent / "result.txt").touch()  # what a sweep writes beside the package
    assert commit_now() == head
    (checkout / "__init__.py").write_text("changed")
    assert commit_now() == f"{head}-dirty"
    environment.commit.cache_clear()


def test_versions_are_those_that_run() -> None:
    import opacus
    import torch

    where = environment.describe(
        implementation="fused",
        device="cpu",
        threads=3,
        memory_format="contiguous",
        physical_batch_size=None,
        workers_beside=0,
    )
    assert where.torch_version == torch.__version__
    assert where.opacus_version == opacus.__version__
    assert where.threads == 3
