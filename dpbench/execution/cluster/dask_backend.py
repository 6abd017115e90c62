"""Trials to the workers of a cluster, and their rows back.

dask decides which worker runs what. How many trials are submitted at a time, and what becomes of
those whose worker dies, is decided here.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dpbench.errors import ClusterError
from dpbench.execution import provenance, stacks, timing_task, trial_task
from dpbench.execution.backend import Workers
from dpbench.execution.cluster import remote_calls, submission
from dpbench.execution.cluster.dask_workers import DaskWorkers
from dpbench.execution.cluster.messages import first_line, whole
from dpbench.execution.cluster.submission import Killed, Submission
from dpbench.execution.schedule import Claims, Row, Unclaimed, by_trial
from dpbench.execution.stacks import Stack
from dpbench.observations import PASSING_FAILURES, Epoch
from dpbench.store.claims import Claim
from dpbench.trial import Trial, Workload

if TYPE_CHECKING:
    from distributed import Client, Future

_POLL_SECONDS = 1.0  # between questions whether another sweep has ended a trial
_TIMING_POLL_SECONDS = 2.0
_TRIES = 3  # of what fails on the workers without a word

Work = Callable[[Stack, Workers, remote_calls.Requirements], list[Row] | remote_calls.Unfit]


class DaskBackend:
    """A `Backend` of a cluster's workers.

    Args:
        client: Of the scheduler.
        workers: How trials are run; `devices` are one, `cpu` or `cuda:0`, and `jobs` is not used.
        requirements: What each worker must have.
        gpu_share: What a trial takes of the resource `GPU`; None on a CPU.
        work: What a worker does with trials.
    """

    def __init__(
        self,
        client: "Client",
        workers: Workers,
        requirements: remote_calls.Requirements,
        *,
        gpu_share: float | None = None,
        work: Work = remote_calls.run_trials,
    ) -> None:
        self._client, self._workers, self._requirements = client, workers, requirements
        self._work, self._there = work, DaskWorkers(client, requirements, gpu_share)
        self._timer: str | None = None  # the worker that measures timings
        self._ended_futures: queue.SimpleQueue[Future] = queue.SimpleQueue()

    @property
    def device(self) -> str:
        """The workers'."""
        return self._workers.devices[0]

    @property
    def places(self) -> int:
        """As `Backend.places`; at this moment, and at least 1."""
        return max(1, sum(self._there.fit().values()))

    def __str__(self) -> str:
        fit = self._there.fit()
        return f"{sum(fit.values())} at a time, on {len(fit)} workers of a cluster"

    def check(self) -> None:
        """As `DaskWorkers.check`."""
        self._there.check()

    def run(
        self,
        trials: Sequence[Trial],
        claims: Claims | None = None,
        _on_row: Callable[[Row], None] = lambda _: None,
    ) -> Generator[list[Row]]:
        """As `Backend.run`.

        A trial whose worker dies goes to another, as often as the scheduler allows. If those die,
        too, it is tried once more with no other trial of this sweep, and recorded as crashed.

        Raises:
            ClusterError: The scheduler has gone, or no worker is left that can run trials.
        """
        claims = claims or Unclaimed()
        places = sum(self._there.fit().values())
        waiting = deque(stacks.stacks(trials, self._workers.stack, places=places))
        again = deque[Submission]()  # submitted in vain
        claimed_elsewhere, crashed_once = deque[Stack](), deque[Trial]()
        out: dict[str, Submission] = {}
        try:
            while waiting or claimed_elsewhere or crashed_once or again or out:
                room = self._there.room()
                while again and room:
                    sent = again.popleft()
                    self._submit(sent.trials, out, alone=sent.alone, failures=sent.failures)
                while waiting and len(out) < room:
                    if mine := _claimed(waiting.popleft(), claims, claimed_elsewhere):
                        self._submit(mine, out)
                if crashed_once and room and not (waiting or again or out):
                    self._submit((crashed_once.popleft(),), out, alone=True)
                ended = list(self._ended(out))
                if not (ended or waiting):
                    waiting, claimed_elsewhere = claimed_elsewhere, waiting
                for sent, result in ended:
                    if result is None:
                        again.append(sent)
                        continue
                    for trial, rows in self._results(sent, result):
                        if rows is None:
                            crashed_once.append(trial)
                        else:
                            yield rows
                            claims.release(trial)
        finally:
            with suppress(Exception):  # the scheduler may have gone
                self._client.cancel([sent.future for sent in out.values()], force=True)

    def _submit(
        self,
        trials: Stack,
        out: dict[str, Submission],
        *,
        alone: bool = False,
        failures: int = 0,
    ) -> None:
        concurrent = 0 if alone else max(self._there.fit().values(), default=1) - 1
        workers = replace(self._workers, jobs=1, others=concurrent)
        allowed = self._there.allowed()
        with self._there.scheduler_errors():
            future = submission.submit(
                self._client,
                self._work,
                *(trials, workers, self._requirements),
                allowed=allowed,
                resources=self._there.resources,
            )
        out[future.key] = Submission(
            future=future,
            trials=trials,
            alone=alone,
            concurrent=concurrent,
            allowed=allowed,
            failures=failures,
        )
        future.add_done_callback(self._ended_futures.put)

    def _ended(
        self, out: dict[str, Submission]
    ) -> Iterator[tuple[Submission, list[Row] | Killed | None]]:
        """What has ended, after a second at most: with its rows, or how its workers died.

        None if the trials have to be submitted again: their worker lacks something, the scheduler
        has forgotten them, or all workers that they may go to have left.
        """
        ended = [out.pop(future.key) for future in self._new_futures() if future.key in out]
        finished = [sent for sent in ended if sent.future.status == "finished"]
        for sent, result in zip(finished, self._gathered(finished), strict=True):
            yield sent, self._rows(result)
        for sent in ended:
            if sent.future.status == "error":
                yield self._erred(sent)
            elif sent not in finished:
                yield sent, None
        fit = self._there.fit()
        for key, sent in list(out.items()):
            if sent.allowed is not None and not any(worker in fit for worker in sent.allowed):
                with self._there.scheduler_errors():
                    self._client.cancel([sent.future], force=True)
                yield out.pop(key), None

    def _new_futures(self) -> list["Future"]:
        futures = []
        with suppress(queue.Empty):
            futures.append(self._ended_futures.get(timeout=_POLL_SECONDS))
            while True:
                futures.append(self._ended_futures.get_nowait())
        return futures

    def _gathered(
        self, finished: Sequence[Submission]
    ) -> list[list[Row] | remote_calls.Unfit | None]:
        """What the workers have returned, in one request if nothing of it is lost."""
        with suppress(Exception):
            results = self._client.gather([sent.future for sent in finished], errors="skip")
            if len(results) == len(finished):
                return [submission.returned(each) for each in results]
        return [submission.result(sent.future) for sent in finished]

    def _rows(self, result: list[Row] | remote_calls.Unfit | None) -> list[Row] | None:
        """The rows; None from a worker that lacks something, which gets no more trials."""
        if isinstance(result, remote_calls.Unfit):
            self._there.exclude(result)
            return None
        return result

    def _erred(self, sent: Submission) -> tuple[Submission, Killed | None]:
        """How the trials' workers died, or None if they are to be submitted again.

        Raises:
            ClusterError: No worker takes them.
        """
        with suppress(OSError), self._there.scheduler_errors():
            error = sent.future.exception()
            if killed := submission.killed(error):
                return sent, killed
            if sent.failures + 1 >= _TRIES:
                raise ClusterError(f"The cluster's workers take no trials: {whole(error)}")
        return replace(sent, failures=sent.failures + 1), None

    def _results(
        self, sent: Submission, result: list[Row] | Killed
    ) -> Iterator[tuple[Trial, list[Row] | None]]:
        """The rows of each trial; None if it is to be tried with no other trial of this sweep."""
        if isinstance(result, Killed):
            seen = Epoch(epoch=1, status="crashed", reason=str(result))
            for trial in sent.trials:
                row = trial_task.failed_row(trial, seen, self._workers, concurrent=0)
                yield trial, [row] if sent.alone else None
            return
        known = {trial.trial_id: trial for trial in sent.trials}
        for rows in by_trial(result):
            may_pass = rows[-1].get("status") in PASSING_FAILURES and sent.concurrent > 0
            yield known[rows[0]["trial_id"]], None if may_pass else rows

    def conditions(self) -> Mapping[str, object]:
        """As `Backend.conditions`: of the worker that measures timings.

        Raises:
            ClusterError: The scheduler has gone, or the worker does not answer.
        """
        worker = self._timing_worker()
        with self._there.scheduler_errors():
            found = self._there.ask(worker, provenance.conditions, self._workers)
            if not isinstance(found, dict):
                raise ClusterError(f"The worker {worker} cannot time: {first_line(found)}")
        return found

    def _timing_worker(self) -> str:
        """The worker that measures timings, the same one as long as it is there; waits for one."""
        while not (fit := self._there.fit()):
            time.sleep(_POLL_SECONDS)
        if self._timer is None or self._timer not in fit:
            self._timer = min(fit)
        return self._timer

    def time_engines(self, engines: Sequence[str], workload: Workload) -> Generator[list[Row]]:
        """As `Backend.time_engines`, all at the end; on one worker, as long as it is there.

        Raises:
            ClusterError: The scheduler has gone, or no worker can measure them.
        """
        assert workload.dataset == self._requirements.dataset
        for _ in range(_TRIES):
            worker = self._timing_worker()
            with self._there.scheduler_errors():
                future = submission.submit(
                    self._client,
                    remote_calls.time_engines,
                    *(engines, workload, self._workers, self._requirements),
                    (timing_task.processes_of(workload), timing_task.TIMED_PAIRS),
                    allowed=[worker],
                    resources=self._there.resources,
                )
            try:
                rows = self._timed(future)
            finally:
                with suppress(Exception):
                    self._client.cancel([future], force=True)
            if rows is not None:
                yield from _by_process(rows)
                return
        raise ClusterError(
            f"Workers have gone {_TRIES} times while they measured {', '.join(engines)} at batch "
            f"size {workload.batch_size}; --no-timing leaves timings out."
        )

    def _timed(self, future: "Future") -> list[Row] | None:
        """The rows of a timing; None if its worker cannot measure it, or has left."""
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        while self._timer in self._there.fit() and not ended.wait(_TIMING_POLL_SECONDS):
            pass
        with self._there.scheduler_errors():
            if future.status == "error" and not submission.killed(error := future.exception()):
                raise ClusterError(f"The worker {self._timer} cannot time: {first_line(error)}")
            return self._rows(submission.result(future)) if future.status == "finished" else None


def _claimed(trials: Stack, claims: Claims, elsewhere: deque[Stack]) -> Stack:
    """Those that this sweep is to run; those that others run now are added to `elsewhere`."""
    taken = {trial: claims.take(trial) for trial in trials}
    elsewhere.extend((trial,) for trial in trials if taken[trial] is Claim.BUSY)
    return tuple(trial for trial in trials if taken[trial] is Claim.MINE)


def _by_process(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of timings, those of each engine in each process apart."""
    found: dict[tuple[Any, Any], list[Row]] = {}
    for row in rows:
        found.setdefault((row["engine"], row["process"]), []).append(row)
    return list(found.values())
