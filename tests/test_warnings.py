"""Warnings of dpbench's own code fail its tests; those of other packages do not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from factories import ROOT

WARN = """
import threading
import warnings


def warn(category=UserWarning, stacklevel=1):
    warnings.warn("a warning", category, stacklevel=stacklevel)


def leave_open():
    open(__file__)


def die_in_a_thread():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
"""
TESTS = """
import gc
import sys

import another
import dpbench.sweep
import dpbench_of_somebody


def test_ours():
    dpbench.sweep.warn()


def test_ours_deprecated():
    dpbench.sweep.warn(DeprecationWarning)


def test_ours_in_the_test():
    another.warn(stacklevel=2)


def test_ours_left_open():
    dpbench.sweep.leave_open()
    gc.collect()


def test_ours_in_a_thread():
    dpbench.sweep.die_in_a_thread()


def test_theirs():
    another.warn()
    another.warn(DeprecationWarning)
    dpbench_of_somebody.warn()


def test_theirs_left_open():
    another.leave_open()
    gc.collect()


def test_theirs_in_a_thread():
    another.die_in_a_thread()
"""


def test_only_our_own_warnings_fail(tmp_path: Path) -> None:
    own, others = tmp_path / "clone", tmp_path / "others"
    for folder in (own / "dpbench", own / "tests", others):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", own)
    (own / "dpbench" / "__init__.py").touch()
    (own / "dpbench" / "sweep.py").write_text(WARN, encoding="utf-8")
    (own / "tests" / "test_planted.py").write_text(TESTS, encoding="utf-8")
    for name in ("another", "dpbench_of_somebody"):
        (others / f"{name}.py").write_text(WARN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"],
        cwd=own,
        env=os.environ | {"PYTHONPATH": str(others)},
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = dict(re.findall(r"::test_(\w+) (PASSED|FAILED)", done.stdout))
    assert len(outcomes) == TESTS.count("def test_"), done.stdout
    for name, outcome in outcomes.items():
        assert outcome == ("FAILED" if name.startswith("ours") else "PASSED"), done.stdout
