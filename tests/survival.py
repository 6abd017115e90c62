"""Real sweeps that are really killed, and what must hold afterwards."""

import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq

from dpbench import store
from dpbench.store import files

SWEEP = (
    "--dataset digits --noise-multiplier 0.8 1.6 --max-grad-norm 1 --batch-size 64 --epochs 3 "
    "--seeds 0 1 2 --no-timing"
).split()
SWEEP_TRIALS = 15  # two noises, and three learning rates without privacy, by three seeds
GONE_SECONDS = 10  # after which no process of a sweep that was killed may be left
PATIENCE_SECONDS = 600  # on a machine that does other things, too
COMPACTED = 0.2  # of the sweeps resume a store that has been compacted
WHERE = ["train_seconds", "examples_per_second", "workers_beside", "started_at", "dpbench_commit"]


class Sweep:
    """A running sweep into a store, on so many workers."""

    def __init__(self, root: Path, jobs: int = 2) -> None:
        self.root = root
        self.started = time.monotonic()
        self.said = root.with_suffix(".stderr")
        signal.signal(signal.SIGINT, signal.default_int_handler)  # where pytest runs in a script
        with self.said.open("w") as stderr:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "dpbench.sweep",
                    *SWEEP,
                    "--jobs",
                    str(jobs),
                    "--out",
                    str(root),
                ],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                env=os.environ | {"PYTHONFAULTHANDLER": "1"},
            )

    def workers(self) -> list[psutil.Process]:
        """Those that are there now."""
        try:
            children = psutil.Process(self.process.pid).children()
            return [child for child in children if "popen_loky" in " ".join(child.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def wait_until(self, there: Callable[[], object]) -> bool:
        """Whether it came true before the sweep ended; asked often, to hit short moments."""
        while self.process.poll() is None and time.monotonic() < self.started + PATIENCE_SECONDS:
            if there():
                return True
            time.sleep(0.001)
        return False

    def end(self) -> int:
        """Its exit code, once no process of its session is left."""
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            for stuck in [*self.workers(), psutil.Process(self.process.pid)]:
                stuck.send_signal(signal.SIGABRT)  # each says where it is
            self.process.wait(GONE_SECONDS)
            raise AssertionError(f"stuck: {self.said.read_text()}") from None
        deadline = time.monotonic() + GONE_SECONDS
        while left := _session(self.process.pid):
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.1)
        return code


def _session(leader: int) -> list[str]:
    """The processes of the session that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def kill_driver(sweep: Sweep, rng: random.Random, seconds: float) -> int:
    """At any moment, from its first import on."""
    moment = sweep.started + rng.uniform(0, seconds)
    if not sweep.wait_until(lambda: time.monotonic() > moment):
        return 0
    sweep.process.kill()
    return 1


def kill_driver_while_it_writes(sweep: Sweep, rng: random.Random, _seconds: float) -> int:
    """While a file is half written, and at least one is whole."""
    scratch, whole = sweep.root / files.SCRATCH, len(_files(sweep.root)) + rng.randint(1, 3)
    if not sweep.wait_until(
        lambda: len(_files(sweep.root)) >= whole and next(scratch.glob("*.tmp"), None)
    ):
        return 0
    sweep.process.kill()
    return 1


def kill_driver_while_it_renews(sweep: Sweep, rng: random.Random, _seconds: float) -> int:
    """While it gives old files today's columns; `age` has made them old."""
    scratch = sweep.root / files.SCRATCH
    if not sweep.wait_until(lambda: next(scratch.glob("*.tmp"), None)):
        return 0
    time.sleep(rng.uniform(0, 0.05))
    sweep.process.kill()
    return 1


def kill_worker(sweep: Sweep, rng: random.Random, _seconds: float) -> int:
    """One of two, by one of many signals; the sweep goes on."""
    before = _files(sweep.root)
    if not sweep.wait_until(lambda: _files(sweep.root) != before):
        return 0
    time.sleep(rng.uniform(0, 1))
    signals = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM)
    for worker in sweep.workers()[:1]:
        worker.send_signal(rng.choice(signals))
        return 1
    return 0


def fill_disk(sweep: Sweep, rng: random.Random, seconds: float) -> int:
    """From some moment on, no file that the driver writes can grow beyond 4 kB."""
    if not sweep.wait_until(sweep.workers):
        return 0
    time.sleep(rng.uniform(0, seconds / 2))
    if sweep.process.poll() is not None:
        return 0
    resource.prlimit(sweep.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    return 1


def interrupt(sweep: Sweep, rng: random.Random, seconds: float) -> int:
    """Ctrl-C or SIGTERM, once it handles them."""
    if not sweep.wait_until(lambda: sweep.said.stat().st_size):
        return 0
    time.sleep(rng.uniform(0, seconds / 2))
    if sweep.process.poll() is not None:
        return 0
    sweep.process.send_signal(rng.choice((signal.SIGINT, signal.SIGTERM)))
    return 1


Strike = Callable[[Sweep, random.Random, float], int]
STRIKES: tuple[Strike, ...] = (
    kill_driver,
    kill_driver_while_it_writes,
    kill_driver_while_it_renews,
    kill_worker,
    fill_disk,
    interrupt,
)


def undisturbed(root: Path) -> tuple[pd.DataFrame, float]:
    """What a sweep gives that nobody disturbs, and the seconds that it takes."""
    sweep = Sweep(root)
    assert sweep.end() == 0, sweep.said.read_text()
    return numbers(root), time.monotonic() - sweep.started


def numbers(root: Path) -> pd.DataFrame:
    """Every row of the store, by pandas alone, without what differs from run to run."""
    frame = pd.read_parquet(root / "trials").drop(columns=WHERE)
    return frame.sort_values(["trial_id", "epoch"], ignore_index=True)


def disturb(
    folder: Path,
    *,
    kills: int,
    strikes: Sequence[Strike],
    seed: int,
    expected: pd.DataFrame,
    seconds: float,
) -> Counter[str]:
    """Sweeps, struck and resumed until so many kills have been survived; what those were.

    Args:
        folder: For the stores; a new one is begun when a sweep has been through.
        kills: At least so many.
        strikes: In turn.
        seed: Of the moments.
        expected: Of `undisturbed`.
        seconds: Of `undisturbed`.
    """
    rng = random.Random(seed)  # noqa: S311
    survived: Counter[str] = Counter()
    stores = (folder / f"store-{number}" for number in itertools.count())
    root, done = next(stores), set[str]()
    for strike in itertools.cycle(strikes):
        if survived.total() >= kills:
            break
        if strike is kill_driver_while_it_renews and not age(root):
            continue
        if rng.random() < COMPACTED:
            store.compact(root)
        sweep = Sweep(root, jobs=2 if strike is kill_worker else 1)
        survived[strike.__name__] += strike(sweep, rng, seconds)
        code = sweep.end()
        done = holds(root, done)
        line = f"{survived.total():4} {strike.__name__}: exit code {code}, {len(done)} done"
        print(line, flush=True)
        allowed = {0, 1, 2, 130, -signal.SIGKILL}
        if len(done) == SWEEP_TRIALS:  # asked to end as it ended: nothing was left to do
            allowed |= {-signal.SIGTERM, -signal.SIGINT}
        assert code in allowed, sweep.said.read_text()
        if code == 2:
            assert "Cannot write" in sweep.said.read_text()
        if len(done) == SWEEP_TRIALS:
            pd.testing.assert_frame_equal(numbers(root), expected, check_exact=True)
            root, done = next(stores), set[str]()
    same(root, expected)
    return survived


def holds(root: Path, before: set[str]) -> set[str]:
    """The finished trials; checks what must be true of a store at any moment."""
    if not _files(root):
        assert not before
        return set()
    frame = pd.read_parquet(root / "trials")
    assert not frame.duplicated(["trial_id", "epoch"]).any()
    done = store.finished(root)
    assert done >= before, "a finished trial is lost"
    assert not (root / "damaged").exists()
    return done


def same(root: Path, expected: pd.DataFrame) -> None:
    """Resumes the sweep to its end, and compares."""
    sweep = Sweep(root)
    assert sweep.end() == 0, sweep.said.read_text()
    pd.testing.assert_frame_equal(numbers(root), expected, check_exact=True)


def age(root: Path) -> bool:
    """Takes a column out of the store's files, as an older dpbench wrote them; False if empty."""
    paths = _files(root)
    for path in paths:
        pq.write_table(pq.ParquetFile(path).read().drop_columns(["traceback"]), path)
    return bool(paths)


def _files(root: Path) -> set[Path]:
    return set((root / "trials").glob("*.parquet"))
