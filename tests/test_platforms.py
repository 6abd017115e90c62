"""Systems that this suite does not run on: what can be known of them on the one that it runs on."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import TESTS, make_trial

import dpbench
from dpbench import store
from dpbench.errors import BadInput
from dpbench.execution.resources import Resources
from dpbench.measurement import devices
from dpbench.store import claims
from dpbench.training import evaluation, loop

PACKAGE = Path(dpbench.__file__).parent
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}
POSIX_SIGNALS = ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIG_BLOCK", "pthread_sigmask")

ELSEWHERE = os.environ | {
    "PYTHONPATH": os.pathsep.join(
        [str(TESTS / "elsewhere"), str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    )
}
SWEEP = (
    "--dataset digits --model mlp --engine bookkeeping --noise-multiplier 1 --max-grad-norm 1 "
    "--batch-size 256 --epochs 1 --no-baseline --no-timing --device cpu --jobs 1 --out store"
).split()


@pytest.mark.slow  # below, nothing is imported that only POSIX has, and what stands in is tested
def test_a_sweep_runs_without_what_only_posix_has(tmp_path: Path) -> None:
    """Driver and workers have no fcntl, resource, SIGHUP, SIGUSR1, signal masks or renameat2."""
    done = subprocess.run(
        [sys.executable, "-m", "dpbench.sweep", *SWEEP],
        cwd=tmp_path,
        env=ELSEWHERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(store.states(tmp_path / "store").values()) == ["ok"]
    assert (tmp_path / "store" / "report.html").is_file()


def test_that_run_has_none_of_it() -> None:
    program = "import ctypes, signal\nfor name in ('fcntl', 'resource'):\n"
    program += " try:\n  __import__(name)\n except ImportError:\n  print(name)\n"
    program += "print(hasattr(signal, 'SIGHUP'), hasattr(ctypes.CDLL(None), 'renameat2'))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=ELSEWHERE, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["fcntl", "resource", "False", "False"]


def posix_only(source: str) -> list[str]:
    """What the source takes from POSIX where it would fail without it, at its top level.

    An import in a `try`, and a signal's name behind a `hasattr` or in an `if`, are guarded.
    """
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name in POSIX_ONLY]
        elif isinstance(node, ast.ImportFrom) and node.module in POSIX_ONLY:
            found.append(str(node.module))
        elif not isinstance(node, ast.Try | ast.If | ast.FunctionDef | ast.ClassDef):
            found += [
                each.attr
                for each in ast.walk(node)
                if isinstance(each, ast.Attribute)
                and each.attr in POSIX_SIGNALS
                and isinstance(each.value, ast.Name)
                and each.value.id == "signal"
            ]
    return found


def test_imports_take_nothing_that_only_posix_has() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert posix_only(path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("from resource import getrusage", ["resource"]),
        ("ENDING = (signal.SIGINT, signal.SIGHUP)", ["SIGHUP"]),
        ("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None", []),
    ],
)
def test_what_only_posix_has_is_found(source: str, found: list[str]) -> None:
    assert posix_only(source) == found


def test_claims_exclude_one_another_without_byte_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "fcntl", None)
    store.create(tmp_path)
    one, other = make_trial(), make_trial(seed=1)
    seen: list[Any] = []
    with (
        claims.Claims(tmp_path, {}, on_done=seen.append) as ours,
        claims.Claims(tmp_path, {}, on_done=seen.append) as theirs,
    ):
        assert ours.take(one) is claims.Claim.MINE
        assert theirs.take(one) is claims.Claim.BUSY
        assert theirs.take(other) is claims.Claim.MINE
        ours.release(one)
        ours.release(one)  # as of one that was never taken
        assert theirs.take(one) is claims.Claim.MINE
    with claims.Claims(tmp_path, {}, on_done=seen.append) as ours:
        assert ours.take(one) is claims.Claim.MINE
    assert seen == []


def test_a_worker_is_killed_where_there_is_no_sigkill(monkeypatch: pytest.MonkeyPatch) -> None:
    from dpbench.processes import worker_pool

    class Process:
        exitcode, ended = None, False

        def terminate(self) -> None:
            self.ended = True

    monkeypatch.delattr(signal, "SIGKILL")
    process = Process()
    worker_pool._kill(process)
    assert process.ended
    assert not worker_pool.Death(exit_code=-9).by_sigkill


def test_mps_is_a_device_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mps.is_available():
        with pytest.raises(BadInput, match=r"device='mps' to be there: .* no Metal GPU"):
            devices.resolve(["mps"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.resolve(["mps"]) == devices.planned(["mps"]) == ("mps",)
    assert Resources(device=("mps",)).stacked("mps") == 1


def test_metal_is_waited_for_and_has_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    loop.synchronise("mps")
    assert waited == ["mps"]
    assert evaluation.sum_type(torch.device("mps")) is torch.float32
    assert evaluation.sum_type(torch.device("cpu")) is torch.float64


def test_a_gpu_is_refused_by_its_usual_name_with_a_hint() -> None:
    for resolve in (devices.resolve, devices.planned):
        with pytest.raises(BadInput, match=r"device='gpu' to be auto, .*A GPU is cuda, or mps"):
            resolve(["gpu"])


def sorts(tree: ast.AST) -> list[ast.Call]:
    """Calls that sort by one key, so that the order of equals is the sort's own."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("argsort", "sort_values")
    ]
    several = (  # pandas sorts by several keys stably, whatever the kind
        call.args and isinstance(call.args[0], ast.List) and len(call.args[0].elts) > 1
        for call in calls
    )
    return [call for call, stable in zip(calls, several, strict=True) if not stable]


def test_equals_are_in_the_same_order_on_every_processor() -> None:
    """Numpy sorts otherwise with AVX-512 than with AVX2, and a choice among equals follows it."""
    unstable = []
    for path in PACKAGE.rglob("*.py"):
        for call in sorts(ast.parse(path.read_text(encoding="utf-8"))):
            kinds = [ast.unparse(each.value) for each in call.keywords if each.arg == "kind"]
            if kinds != ["'stable'"]:
                unstable.append(f"{path.name}:{call.lineno}")
    assert unstable == []
