"""Trials to a dask.distributed cluster that somebody has started, and their rows back.

Only trials travel out, and rows back: workers have dpbench, torch and the data themselves. Which
worker runs what is dask's affair; how many trials are out at a time, and what becomes of those
whose worker dies, is decided here.
"""

import itertools
import queue
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import command, runner, stacks, station
from dpbench.runner import Workers
from dpbench.schedule import Claims, Lost, Row, Unclaimed, by_trial
from dpbench.stacks import Stack
from dpbench.trial import BadInput, TimedName, Trial

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 30.0
TIMING_PAIRS = 7  # as a sweep takes here
GPU = "GPU"  # the resource that workers with a GPU announce, as dask's documentation names it
_POLL_SECONDS = 1.0  # between questions whether another sweep has ended a trial
_LOOK_SECONDS = 2.0  # between looks at which workers there are
_AHEAD = 2  # trials out for each place, so that none waits for the driver

Work = Callable[[Stack, Workers, station.Kit], list[Row] | station.Unfit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a scheduler is: one of the first two, and what opens it."""

    scheduler: str | None = None
    scheduler_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __str__(self) -> str:
        return self.scheduler or str(self.scheduler_file)


@contextmanager
def connected(address: Address) -> Iterator["Client"]:
    """A client of the scheduler; what it had out is given up when the context ends.

    Raises:
        BadInput: dask.distributed is not installed, or no scheduler answers there.
    """
    try:
        import distributed
        from distributed.security import Security
    except ImportError as error:
        raise BadInput(
            "Expected dask.distributed for --scheduler; pip install 'dpbench-sgd[dask]'."
        ) from error
    file = address.scheduler_file
    if file is not None and not file.is_file():
        raise BadInput(f"Expected scheduler_file={str(file)!r} to be a file, as dask writes it.")
    tls = {
        "tls_ca_file": address.tls_ca_file,
        "tls_client_cert": address.tls_cert,
        "tls_client_key": address.tls_key,
    }
    given = {name: str(path) for name, path in tls.items() if path is not None}
    for path in given.values():
        if not Path(path).is_file():
            raise BadInput(f"Expected {path!r} to be a file in PEM format.")
    try:
        client = distributed.Client(
            address.scheduler,
            scheduler_file=None if file is None else str(file),
            security=Security(require_encryption=True, **given) if given else None,
            timeout=CONNECT_SECONDS,
            set_as_default=False,
            name="dpbench",
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise BadInput(
            f"Expected a scheduler at {address}, and none answers: {_first_line(error)}"
        ) from error
    try:
        yield client
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client.close(timeout=5)


class Cluster:
    """A `runner.Place`.

    Args:
        client: Of the scheduler.
        workers: How trials are run; `devices` are one, `cpu` or `cuda:0`, and `jobs` is not used.
        kit: What each worker must have.
        gpu_share: What a trial takes of the resource `GPU`; None on a CPU.
        work: What a worker does with trials.
    """

    def __init__(
        self,
        client: "Client",
        workers: Workers,
        kit: station.Kit,
        *,
        gpu_share: float | None = None,
        work: Work = station.run_trials,
    ) -> None:
        self._client, self._workers, self._kit, self._work = client, workers, kit, work
        self._resources = {} if gpu_share is None else {GPU: gpu_share}
        self._unfit: dict[str, str] = {}  # address -> what it lacks
        self._looked_at = -_LOOK_SECONDS
        self._threads: Mapping[str, int] = {}
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._tries = itertools.count()

    @property
    def device(self) -> str:
        """The workers'."""
        return self._workers.devices[0]

    def __str__(self) -> str:
        fit = self._fit()
        return f"{sum(fit.values())} at a time, on {len(fit)} workers of a cluster"

    def check(self) -> None:
        """Raises BadInput if there is no worker, or one that lacks something."""
        found = self._client.run(station.lacks, self._kit, on_error="return")
        if not found:
            raise BadInput(
                f"Expected workers at {self._client.scheduler.address}, and there are none; start "
                "some: dask worker ADDRESS --nthreads 1"
            )
        for worker, lack in found.items():
            if isinstance(lack, Exception):
                raise BadInput(f"The worker {worker} cannot run dpbench: {_first_line(lack)}")
            if lack is not None:
                raise BadInput(f"The worker {worker} cannot run this sweep: {lack}.")
        share = self._resources.get(GPU)
        if share is not None:
            announced = self._client.run(station.resources).values()
            if not any(each.get(GPU, 0) >= share for each in announced):
                raise BadInput(
                    f"Expected a worker with {share:g} of the resource GPU for --device cuda; "
                    'start one for each GPU: dask worker ADDRESS --resources "GPU=1"'
                )

    def run(self, trials: Sequence[Trial], claims: Claims | None = None) -> Generator[list[Row]]:
        """As `Place.run`.

        A trial whose worker dies goes to another, as often as the scheduler allows. What takes
        those down, too, is tried once more with nothing of ours beside it, and recorded as crashed.
        """
        claims = claims or Unclaimed()
        waiting = deque(stacks.stacks(trials, self._workers.stack))
        busy, suspects = deque[Stack](), deque[Trial]()
        out: dict[str, _Out] = {}
        try:
            while waiting or busy or suspects or out:
                while waiting and len(out) < self._room():
                    if mine := _claimed(waiting.popleft(), claims, busy):
                        self._send(mine, out)
                if suspects and not (waiting or out):
                    self._send((suspects.popleft(),), out, alone=True)
                ended = list(self._ended(out))
                if not (ended or waiting):
                    waiting, busy = busy, waiting
                for sent, result in ended:
                    if isinstance(result, list):
                        known = {trial.trial_id: trial for trial in sent.trials}
                        for rows in by_trial(result):
                            yield rows
                            claims.give_back(known[rows[0]["trial_id"]])
                    elif result is None:
                        self._send(sent.trials, out, alone=sent.alone)
                    elif sent.alone:
                        (trial,) = sent.trials
                        yield [self._lost(trial, result)]
                        claims.give_back(trial)
                    else:
                        suspects.extend(sent.trials)
        finally:
            self._client.cancel([sent.future for sent in out.values()], force=True)

    def time_engine(self, engine: TimedName, batch_size: int, dataset: str) -> list[Row]:
        """As `Place.time_engine`; each on the same worker, as long as that is there."""
        assert dataset == self._kit.dataset
        worker = min(self._fit())
        future = self._client.submit(
            station.time_engine,
            engine,
            batch_size,
            self._workers,
            self._kit,
            TIMING_PAIRS,
            workers=[worker],
            resources=self._resources,
            pure=False,
        )
        rows: list[Row] | station.Unfit = future.result()
        if isinstance(rows, station.Unfit):
            raise BadInput(f"The worker {worker} cannot time {engine}: {rows.lack}.")
        return rows

    def _send(self, trials: Stack, out: dict[str, "_Out"], *, alone: bool = False) -> None:
        """Submits the trials; their key tells them from other tries."""
        fit = self._fit()
        beside = max(fit.values(), default=1) - 1
        future = self._client.submit(
            self._work,
            trials,
            replace(self._workers, jobs=1, others=0 if alone else beside),
            self._kit,
            key=f"dpbench-{trials[0].trial_id}-{next(self._tries)}",
            workers=list(fit) if self._unfit else None,
            resources=self._resources,
            pure=False,
        )
        out[future.key] = _Out(future=future, trials=trials, alone=alone)
        future.add_done_callback(self._done.put)

    def _ended(self, out: dict[str, "_Out"]) -> Iterator[tuple["_Out", list[Row] | str | None]]:
        """What has ended, after a second at most: with its rows, or why a worker died of it.

        None instead where the trial has to be sent again: its worker lacks something, or the
        scheduler has forgotten it.
        """
        futures = []
        try:
            futures.append(self._done.get(timeout=_POLL_SECONDS))
            while True:
                futures.append(self._done.get_nowait())
        except queue.Empty:
            pass
        ended = [out.pop(future.key) for future in futures if future.key in out]
        finished = [sent for sent in ended if sent.future.status == "finished"]
        results = self._client.gather([sent.future for sent in finished], errors="skip")
        if len(results) != len(finished):  # a worker has gone with its results
            results = [_result(sent.future) for sent in finished]
        for sent, result in zip(finished, results, strict=True):
            yield sent, self._rows(result)
        for sent in ended:
            if sent.future.status == "error":
                yield sent, _why(sent.future.exception())
            elif sent not in finished:
                yield sent, None

    def _rows(self, result: "station.Unfit | list[Row] | None") -> list[Row] | None:
        """The rows, or None from a worker that lacks something and is asked no more."""
        if not isinstance(result, station.Unfit):
            return result
        if result.worker not in self._unfit:
            self._unfit[result.worker] = result.lack
            print(f"No trial for the worker {result.worker}: {result.lack}.", file=sys.stderr)
            if not self._fit():
                raise BadInput(f"No worker is left: {result.lack}.")
        return None

    def _fit(self) -> Mapping[str, int]:
        """The workers that lack nothing that we know of, and their threads."""
        if time.monotonic() > self._looked_at + _LOOK_SECONDS:
            with suppress(OSError):  # a scheduler that restarts; the client finds it again
                self._threads = self._client.nthreads()
            self._looked_at = time.monotonic()
        return {each: n for each, n in self._threads.items() if each not in self._unfit}

    def _room(self) -> int:
        """How many trials are to be out."""
        return max(1, _AHEAD * sum(self._fit().values()))

    def _lost(self, trial: Trial, reason: str) -> Row:
        lost = Lost(trial=trial, epochs=0, beside=0, status="crashed", reason=reason, stack=None)
        return runner.lost_row(lost, self._workers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Out:
    """Trials that have been sent."""

    future: "Future"
    trials: Stack
    alone: bool


def _claimed(trials: Stack, claims: Claims, busy: deque[Stack]) -> Stack:
    """Those that this sweep is to run; those that others run now are put aside."""
    whose = {trial: claims.take(trial) for trial in trials}
    busy.extend((trial,) for trial in trials if whose[trial] == "busy")
    return tuple(trial for trial in trials if whose[trial] == "mine")


def _result(future: "Future") -> Any:
    """Its result; None where that is gone."""
    try:
        return future.result()
    except Exception:  # whatever it is, the trial is sent again
        return None


def _why(error: BaseException | None) -> str:
    """How a trial has ended that did not say so itself."""
    return f"twice on the cluster, the second time alone: {_first_line(error)}"


def _first_line(error: object) -> str:
    return command.one_line(str(error).strip().split("\n")[0] or type(error).__name__)
