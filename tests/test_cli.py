import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpbench import cli, strings
from dpbench.measurement import devices


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    asked = f"{sys.executable} -m dpbench.sweep --dataset digits --dry-run"
    shell = shutil.which("bash")
    assert shell is not None
    done = subprocess.run(
        [shell, "-c", f"set -o pipefail; {asked} | true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == cli.EXIT_NO_READER


def test_a_count_has_its_noun() -> None:
    assert strings.counted(1, "trial") == "1 trial"
    assert strings.counted(1200, "trial") == "1,200 trials"


def test_a_plan_takes_the_gpu_that_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidiactl").touch()  # of a driver without a GPU
    assert devices.planned(["auto"], tmp_path) == ("cpu",)
    assert capsys.readouterr().err == ""
    (tmp_path / "nvidia0").touch()
    assert devices.planned(["auto"], tmp_path) == ("cuda:0",)
    assert "planned for cuda:0" in capsys.readouterr().err
    assert devices.planned(["cpu"], tmp_path) == ("cpu",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.planned(["auto"], tmp_path) == ("cpu",)
