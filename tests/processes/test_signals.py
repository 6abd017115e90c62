"""Real signals to real sweeps, at moments when processes are starting."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import here
import psutil
import pytest
from factories import mostly_slow

from dpbench import store, sweep
from dpbench.processes import signals, worker

SWEEP = [
    *[sys.executable, "-m", "dpbench.sweep", "--dataset", "digits", "--noise-multiplier", "1"],
    *["--max-grad-norm", "1", "--batch-size", "64", "--no-timing", "--device", "cpu", "--out"],
]
MEASURE = """
from dpbench.measurement import memory
from dpbench.trial import Workload
work = Workload(dataset="digits", model="tutorial-cnn", batch_size=64)
while True:
    memory.resident_growth("fused", work, threads=1, physical_batch_size=None)
"""
GONE_SECONDS = 60.0  # on a busy machine; a process that does not notice stays for ever


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=GONE_SECONDS)[1]


@pytest.mark.parametrize("delay_seconds", mostly_slow([0.0, 0.02, 0.3, 0.8], lambda it: it == 0.3))
def test_ctrl_c_of_a_terminal_while_workers_start_is_one_line(
    tmp_path: Path, delay_seconds: float
) -> None:
    """A terminal sends it to the whole group: to workers, too, that cannot yet say what to do."""
    driver = subprocess.Popen(
        [*SWEEP, str(tmp_path / "store"), "--epochs", "500", "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert driver.stderr is not None
    assert "to run" in driver.stderr.readline()
    time.sleep(delay_seconds)
    family = psutil.Process(driver.pid).children(recursive=True)
    os.killpg(driver.pid, signal.SIGINT)
    printed, said = driver.communicate(timeout=60)
    assert driver.returncode == 130, said
    assert printed == ""  # loky prints its workers' tracebacks there
    assert "Traceback" not in said
    assert "run the same command again" in said
    assert gone(family)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_what_nohup_ignores_stays_ignored_after_an_interrupt() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handled():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


MODULE = """
import signal
signal.raise_signal(signal.SIGINT)
ENDED = True
"""


def test_an_interrupt_waits_for_the_end_of_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in the middle leaves the module locked: a thread that imports it, too, would hang."""
    (tmp_path / "interrupted_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    ended = []

    def imports() -> None:
        ended.append(importlib.import_module("interrupted_module").ENDED)

    assert_interrupted(imports)
    assert ended == [True]


def test_an_interrupt_that_nothing_can_catch_is_raised_again() -> None:
    class Referent:
        pass

    def callback() -> None:
        referent = Referent()
        interrupts = weakref.ref(referent, lambda _: signal.raise_signal(signal.SIGINT))
        del referent
        assert interrupts() is None

    assert_interrupted(callback)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs masks of signals")
def test_an_interrupt_that_another_thread_takes_waits_for_the_end_of_blocked() -> None:
    held, ended = threading.Event(), []
    other = threading.Thread(target=held.wait)  # it blocks no signal
    other.start()

    def blocks() -> None:
        with signals.blocked():
            assert other.ident is not None
            signal.pthread_kill(other.ident, signal.SIGINT)
            time.sleep(0.2)
            ended.append(True)

    assert_interrupted(blocks)
    held.set()
    other.join()
    assert ended == [True]


def assert_interrupted(meanwhile: Callable[[], None]) -> None:
    """That the interrupt, which comes meanwhile, ends what is done afterwards."""

    def command() -> None:
        with signals.handled():
            meanwhile()
            time.sleep(GONE_SECONDS)

    with pytest.raises(KeyboardInterrupt):
        command()


@pytest.mark.slow  # test_survival kills drivers while they sweep
def test_a_driver_that_dies_while_it_measures_memory_leaves_no_process() -> None:
    driver = subprocess.Popen([sys.executable, "-c", MEASURE])
    known = psutil.Process(driver.pid)
    deadline = time.monotonic() + 300  # on a busy machine a process takes a minute to start
    family: list[psutil.Process] = []
    while len(family) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
        family = known.children(recursive=True)  # resource tracker, fork server, what is measured
    driver.kill()
    driver.wait()
    assert len(family) >= 3
    assert gone(family)


def test_a_driver_has_ended_though_nobody_has_waited_for_it() -> None:
    driver = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = psutil.Process(driver.pid)
    assert not worker.has_ended(known)
    driver.kill()
    deadline = time.monotonic() + GONE_SECONDS
    while not worker.has_ended(known):  # a zombie, which psutil calls running
        assert time.monotonic() < deadline
    assert known.is_running()
    driver.communicate()
    assert worker.has_ended(known)


FLAGS = "--epochs 1 --seeds 0 1 --jobs 1 --no-baseline".split()
needs_linux = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")


@needs_linux
@pytest.mark.parametrize("quiet", [[], ["--quiet"]], ids=["loud", "quiet"])
def test_a_sweep_goes_on_where_nobody_can_read_what_it_says(
    quiet: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full").open("w", encoding="ascii")  # noqa: SIM115  # closing it fails, too
    monkeypatch.setattr(sys, "stderr", full)
    with here.trials_here(), here.blank_figures():
        code = sweep.main([*SWEEP[3:], str(tmp_path / "store"), *FLAGS, *quiet])
    monkeypatch.undo()
    with suppress(OSError):
        full.close()
    assert code == 0
    assert len(store.read_trials(tmp_path / "store")) == 2


@needs_linux
@pytest.mark.slow  # above, in this process
def test_so_do_its_workers(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="ascii") as full:
        done = subprocess.run(
            [*SWEEP, str(tmp_path / "store"), *FLAGS],
            stderr=full,
            stdout=subprocess.DEVNULL,
            check=False,
        )
    assert done.returncode == 0
    assert len(store.read_trials(tmp_path / "store")) == 2
