import shutil
import subprocess
from pathlib import Path

import pytest

from dpbench.measurement import environment


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


def cpuinfo(name: str, family: int = 25, model: int = 17, stepping: int = 1) -> str:
    """As an x86 Linux has it, of two processors."""
    one = (
        f"vendor_id\t: AuthenticAMD\ncpu family\t: {family}\nmodel\t\t: {model}\n"
        f"model name\t: {name}\nstepping\t: {stepping}\nflags\t\t: fpu 1234\npower management:\n"
    )
    return f"processor\t: 0\n{one}\nprocessor\t: 1\n{one}"


@pytest.mark.parametrize(
    "name",
    [
        "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz",
        "AMD EPYC 7763 64-Core Processor",
        "AMD EPYC 9V74 80-Core Processor",
        "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz",
        "Intel(R) Xeon(R) CPU E5-2673 v4 @ 2.30GHz",
        "AMD Ryzen 9 5950X 16-Core Processor",
    ],
)
def test_a_name_that_tells_the_model_is_kept(name: str) -> None:
    assert environment.processor_name(cpuinfo(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "AMD EPYC",
        "Intel(R) Xeon(R) Processor",
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "Intel(R) Xeon(R) Processor @ 2500.128MHz",
        "AMD EPYC-Rome Processor",
        "AMD EPYC 128-Core Processor",
        "QEMU Virtual CPU version 2.5.12+",
        "Intel Xeon E312xx (Sandy Bridge)",
    ],
)
def test_a_name_that_tells_no_model_gets_numbers_that_do(name: str) -> None:
    found = environment.processor_name(cpuinfo(name))
    assert found == f"{name} (family 25, model 17, stepping 1)"
    assert environment.tells_the_model(found)
    assert not environment.tells_the_model(name)
    others = [{"family": 26}, {"model": 1}, {"stepping": 2}]
    unlike = [environment.processor_name(cpuinfo(name, **other)) for other in others]
    assert len({found, *unlike}) == 4


def test_processors_of_arm_are_told_apart_by_their_numbers() -> None:
    text = (
        "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        "CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n"
    )
    found = str(environment.processor_name(text))
    assert found.endswith("(implementer 0x41, variant 0x3, part 0xd0c, revision 1)")
    assert found != environment.processor_name(text.replace("0xd0c", "0xd40"))
    assert environment.processor_name("") is None
    assert environment.processor_name("processor\t: 0\nmodel name\t:\n") is None


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="there is no /proc/cpuinfo")
def test_this_machines_processor_is_named() -> None:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    expected = environment.processor_name(text)
    assert expected is not None
    assert environment.device_name("cpu") == expected
    assert expected.count("\n") == 0
