"""Sweeps whose trials fail as they are told, in worker processes."""

import os
import subprocess
from pathlib import Path

import here
from factories import TESTS

from dpbench import sweep as sweep_command


def sweep(folder: Path, *arguments: str, faults: str = "") -> subprocess.CompletedProcess[str]:
    grid = "--dataset digits --engine fused --noise-multiplier 1 --max-grad-norm 1 --batch-size 64"
    path = os.pathsep.join([str(TESTS / "faults"), os.environ.get("PYTHONPATH", "")])
    with here.blank_figures():
        return here.run(
            sweep_command.main,
            *(*grid.split(), "--epochs", "2", "--no-baseline", "--no-timing", "--jobs", "2"),
            *arguments,
            cwd=folder,
            environment={"FAULTS": faults, "FAULTS_FOLDER": str(folder), "PYTHONPATH": path},
        )
