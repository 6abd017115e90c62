"""Trials to the workers of a cluster, and their rows back.

Which worker runs what is dask's affair; how many trials are out at a time, and what becomes of
those whose worker dies, is decided here.
"""

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dpbench import console
from dpbench.errors import BadInput
from dpbench.execution import runner, stacks
from dpbench.execution.cluster import remote_calls
from dpbench.execution.cluster.errors import first_line, is_killed, whole, why_lost
from dpbench.execution.runner import Workers
from dpbench.execution.schedule import Claims, Lost, Row, Unclaimed, by_trial
from dpbench.execution.stacks import Stack
from dpbench.store.claims import Claim
from dpbench.trial import TimedName, Trial, Workload

if TYPE_CHECKING:
    from distributed import Client, Future

ANSWER_SECONDS = 30.0  # for a worker to say what it lacks; it may import torch for that
GPU = "GPU"  # the resource that workers with a GPU announce, as dask's documentation names it
_POLL_SECONDS = 1.0  # between questions whether another sweep has ended a trial
_LOOK_SECONDS = 2.0  # between looks at which workers there are
_AHEAD = 2  # trials out for each place, so that none waits for the driver
_GONE = ("closing", "closed")  # a client that has given its scheduler up
_TRIES = 3  # of what no worker says anything about
_DIED = "worker died"  # as a row says of a trial that took its process down, twice

Work = Callable[[Stack, Workers, remote_calls.Kit], list[Row] | remote_calls.Unfit]


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
        kit: remote_calls.Kit,
        *,
        gpu_share: float | None = None,
        work: Work = remote_calls.run_trials,
    ) -> None:
        self._client, self._workers, self._kit, self._work = client, workers, kit, work
        self._address = client.scheduler.address
        self._resources = {} if gpu_share is None else {GPU: gpu_share}
        self._unfit: dict[str, str] = {}  # address -> what it lacks
        self._looked_at = -_LOOK_SECONDS
        self._places: dict[str, int] = {}  # address -> trials at a time
        self._told = ""
        self._timer: str | None = None  # the worker that measures timings
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._sent = itertools.count()
        self._errand = _errand()

    @property
    def device(self) -> str:
        """The workers'."""
        return self._workers.devices[0]

    @property
    def places(self) -> int:
        """As `Place.places`; at this moment, and 1 where there is none."""
        return max(1, sum(self._fit().values()))

    def busy_cores(self, left: int) -> int:
        """None: as far as is known, the workers are elsewhere."""
        return 0

    def __str__(self) -> str:
        fit = self._fit()
        return f"{sum(fit.values())} at a time, on {len(fit)} workers of a cluster"

    def check(self) -> None:
        """Raises BadInput if there is no worker, or one that lacks something.

        Workers that do not answer, or leave meanwhile, are passed over while others do.
        """
        with self._heard():
            there = list(self._client.nthreads())
            if not there:
                raise BadInput(
                    f"Expected workers at {self._address}, and there are none; start some: "
                    "dask worker ADDRESS --nthreads 1"
                )
            with ThreadPoolExecutor(min(len(there), 64)) as askers:
                answers = dict(zip(there, askers.map(self._lack, there), strict=True))
            still = self._client.nthreads()
        silent = [worker for worker, lack in answers.items() if isinstance(lack, OSError)]
        for worker, lack in answers.items():
            if isinstance(lack, Exception) and worker not in silent:
                raise BadInput(f"The worker {worker} cannot run dpbench: {first_line(lack)}")
            if isinstance(lack, str):
                raise BadInput(f"The worker {worker} cannot run this sweep: {lack.rstrip('.')}.")
        if len(silent) == len(answers):
            raise BadInput(f"Expected workers at {self._address} that answer, and none does.")
        self._unfit |= {worker: "it does not answer" for worker in silent if worker in still}
        if silent:
            console.say(f"Passed over, for they do not answer: {', '.join(silent)}.")
        self._looked_at = -_LOOK_SECONDS  # workers may have come since the last look
        if not self._fit() and self._resources:
            raise BadInput(
                f"Expected a worker with {self._resources[GPU]:g} of the resource GPU for --device "
                'cuda; start one for each GPU: dask worker ADDRESS --resources "GPU=1"'
            )

    def _lack(self, worker: str) -> str | Exception | None:
        """What the worker says that it lacks; OSError where it says nothing in time."""
        try:
            said = self._client.run(
                remote_calls.lacks,
                self._kit,
                workers=[worker],
                on_error="return",
                callback_timeout=ANSWER_SECONDS,
            )
        except Exception as error:  # TimeoutError, or the worker has left
            return error if isinstance(error, OSError) else OSError(str(error))
        lack: str | Exception | None = said.get(worker, OSError("it has left"))
        return lack

    def run(self, trials: Sequence[Trial], claims: Claims | None = None) -> Generator[list[Row]]:
        """As `Place.run`.

        A trial whose worker dies goes to another, as often as the scheduler allows. What takes
        those down, too, is tried once more with nothing of ours beside it, and recorded as crashed.

        Raises:
            BadInput: The scheduler has gone, or no worker is left that can run trials.
        """
        claims = claims or Unclaimed()
        places = sum(self._fit().values())
        waiting = deque(stacks.stacks(trials, self._workers.stack, places=places))
        again = deque[_Out]()  # what has been sent, for nothing
        busy, suspects = deque[Stack](), deque[Trial]()
        out: dict[str, _Out] = {}
        try:
            while waiting or busy or suspects or again or out:
                while again and self._room():
                    self._send_again(again.popleft(), out)
                while waiting and len(out) < self._room():
                    if mine := _claimed(waiting.popleft(), claims, busy):
                        self._send(mine, out)
                if suspects and self._room() and not (waiting or again or out):
                    self._send((suspects.popleft(),), out, alone=True)
                ended = list(self._ended(out))
                if not (ended or waiting):
                    waiting, busy = busy, waiting
                for sent, result in ended:
                    if result is None:
                        again.append(sent)
                        continue
                    for trial, rows in self._verdicts(sent, result):
                        if rows is None:
                            suspects.append(trial)
                        else:
                            yield rows
                            claims.release(trial)
        finally:
            with suppress(Exception):  # the scheduler may have gone
                self._client.cancel([sent.future for sent in out.values()], force=True)

    def _verdicts(
        self, sent: "_Out", result: list[Row] | str
    ) -> Iterator[tuple[Trial, list[Row] | None]]:
        """The rows of each trial, or None where it is to be tried with nothing of ours beside it.

        Args:
            sent: The trials.
            result: Their rows, or how their workers died.
        """
        if isinstance(result, str):
            for trial in sent.trials:
                yield trial, [self._lost(trial, result)] if sent.alone else None
            return
        known = {trial.trial_id: trial for trial in sent.trials}
        for rows in by_trial(result):
            died = str(rows[-1].get("reason")).startswith(_DIED)
            yield known[rows[0]["trial_id"]], None if died and sent.beside else rows

    def conditions(self) -> Mapping[str, object]:
        """As `Place.conditions`: of the worker that measures timings.

        Raises:
            BadInput: The scheduler has gone, or the worker does not answer.
        """
        worker = self._timing_worker()
        with self._heard():
            said = self._client.run(
                runner.conditions,
                self._workers,
                workers=[worker],
                on_error="return",
                callback_timeout=ANSWER_SECONDS,
            )
            found = said.get(worker)
            if not isinstance(found, dict):
                raise BadInput(f"The worker {worker} cannot time: {first_line(found)}")
        return found

    def _timing_worker(self) -> str:
        """The worker that measures timings, as long as it is there; waits for one."""
        while not (fit := self._fit()):
            time.sleep(_POLL_SECONDS)
        if self._timer is None or self._timer not in fit:
            self._timer = min(fit)
        return self._timer

    def time_engines(
        self, engines: Sequence[TimedName], workload: Workload
    ) -> Generator[list[Row]]:
        """As `Place.time_engines`, when all are there; on the same worker, as long as that is.

        Raises:
            BadInput: The scheduler has gone, or no worker can measure them.
        """
        assert workload.dataset == self._kit.dataset
        for _ in range(_TRIES):
            future = self._submit(
                remote_calls.time_engines,
                *(engines, workload, self._workers, self._kit),
                (runner.TIMED_PROCESSES, runner.TIMED_PAIRS),
                on=[self._timing_worker()],
            )
            try:
                rows = self._timed(future)
            finally:
                with suppress(Exception):
                    self._client.cancel([future], force=True)
            if rows is not None:
                yield from _by_process(rows)
                return
        raise BadInput(
            f"Workers have gone {_TRIES} times while they measured {', '.join(engines)} at batch "
            f"size {workload.batch_size}; --no-timing leaves timings out."
        )

    def _timed(self, future: "Future") -> list[Row] | None:
        """The rows of a timing, or None where its worker cannot measure it, or has left."""
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        while self._timer in self._fit() and not ended.wait(_LOOK_SECONDS):
            pass
        with self._heard():
            if future.status == "error" and not is_killed(error := future.exception()):
                raise BadInput(f"The worker {self._timer} cannot time: {first_line(error)}")
            return self._rows(_result(future)) if future.status == "finished" else None

    def _submit(self, work: Callable[..., Any], *given: Any, on: list[str] | None) -> "Future":
        import cloudpickle  # type: ignore[import-untyped]

        with self._heard():
            return self._client.submit(
                self._errand,
                cloudpickle.dumps((work, *given)),
                key=f"dpbench-{time.time_ns():x}-{next(self._sent)}",
                workers=on,
                resources=self._resources,
                pure=False,
            )

    def _send_again(self, sent: "_Out", out: dict[str, "_Out"]) -> None:
        self._send(sent.trials, out, alone=sent.alone, failures=sent.failures)

    def _send(
        self, trials: Stack, out: dict[str, "_Out"], *, alone: bool = False, failures: int = 0
    ) -> None:
        """Submits the trials; their key tells them from other tries."""
        fit = self._fit()
        beside = 0 if alone else max(fit.values(), default=1) - 1
        on = list(fit) if self._unfit else None
        workers = replace(self._workers, jobs=1, others=beside)
        future = self._submit(self._work, trials, workers, self._kit, on=on)
        out[future.key] = _Out(
            future=future, trials=trials, alone=alone, beside=beside, on=on, failures=failures
        )
        future.add_done_callback(self._done.put)

    def _ended(self, out: dict[str, "_Out"]) -> Iterator[tuple["_Out", list[Row] | str | None]]:
        """What has ended, after a second at most: with its rows, or why a worker died of it.

        None instead where the trial has to be sent again: its worker lacks something, the
        scheduler has forgotten it, or those that it was meant for have all left.
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
        for sent, result in zip(finished, self._results(finished), strict=True):
            yield sent, self._rows(result)
        for sent in ended:
            if sent.future.status == "error":
                yield self._erred(sent)
            elif sent not in finished:
                yield sent, None
        fit = self._fit()
        for key, sent in list(out.items()):
            if sent.on is not None and not any(worker in fit for worker in sent.on):
                with self._heard():
                    self._client.cancel([sent.future], force=True)
                yield out.pop(key), None

    def _results(self, finished: Sequence["_Out"]) -> list[Any]:
        """What the workers have returned; None where that is gone."""
        with suppress(Exception):  # each is asked for below, and sent again where it is lost
            results = self._client.gather([sent.future for sent in finished], errors="skip")
            if len(results) == len(finished):
                return list(results)
        return [_result(sent.future) for sent in finished]

    def _erred(self, sent: "_Out") -> tuple["_Out", str | None]:
        """Why the trial's workers died, or None where it is to be sent again.

        Raises:
            BadInput: No worker takes it.
        """
        with suppress(OSError), self._heard():
            error = sent.future.exception()
            if is_killed(error):
                return sent, why_lost(error)
            if sent.failures + 1 >= _TRIES:
                raise BadInput(f"The cluster's workers take no trials: {whole(error)}")
        return replace(sent, failures=sent.failures + 1), None

    def _rows(self, result: Any) -> list[Row] | None:
        """The rows, or None from a worker that lacks something and is asked no more."""
        if isinstance(result, Mapping):  # from a worker that may know no better
            result = remote_calls.Unfit(**result)
        if not isinstance(result, remote_calls.Unfit):
            return result or None
        if result.worker not in self._unfit:
            lack = result.lack.rstrip(".")
            self._unfit[result.worker] = lack
            console.say(f"No trial for the worker {result.worker}: {lack}.")
            if not self._fit():
                raise BadInput(f"No worker is left: {lack}.")
        return None

    def _fit(self) -> Mapping[str, int]:
        """The workers that lack nothing that we know of, and how many trials each takes."""
        if time.monotonic() > self._looked_at + _LOOK_SECONDS:
            with self._heard():
                try:
                    self._look()
                except OSError:
                    self._tell(f"The scheduler at {self._address} does not answer; waiting for it.")
            self._looked_at = time.monotonic()
        return {each: n for each, n in self._places.items() if n and each not in self._unfit}

    def _look(self) -> None:
        threads = self._client.nthreads()
        share = self._resources.get(GPU)
        if share is None:
            self._places = dict(threads)
        elif threads.keys() != self._places.keys():
            known = self._client.scheduler_info(n_workers=-1)["workers"]
            self._places = {
                worker: min(each["nthreads"], int(each["resources"].get(GPU, 0) / share + 1e-9))
                for worker, each in known.items()
            }
        for worker in self._unfit.keys() - threads.keys():
            del self._unfit[worker]  # what comes back at that address is another one
        if any(n and worker not in self._unfit for worker, n in self._places.items()):
            self._told = ""
        else:
            self._tell("There is no worker now that can run this; waiting for one.")

    def _tell(self, line: str) -> None:
        """Says why nothing goes on, once."""
        if line != self._told:
            self._told = line
            console.say(line)

    def _room(self) -> int:
        """How many trials are to be out; where only unfit workers are there, none."""
        fit = self._fit()
        return max(0 if self._unfit and not fit else 1, _AHEAD * sum(fit.values()))

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Raises BadInput where the scheduler has gone for good."""
        try:
            yield
        except Exception as error:
            if isinstance(error, BadInput) or self._client.status not in _GONE:
                raise
        if self._client.status in _GONE:
            raise BadInput(
                f"The scheduler at {self._address} has gone; what is finished is written; the same "
                "command carries on."
            )

    def _lost(self, trial: Trial, reason: str) -> Row:
        lost = Lost(trial=trial, epochs=0, beside=0, status="crashed", reason=reason, stack=None)
        return runner.lost_row(lost, self._workers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Out:
    """Trials that have been sent.

    Attributes:
        future: Of their rows.
        trials: Which.
        alone: Whether nothing else of this sweep is out.
        beside: How many may run beside them on their worker.
        on: The workers that they may go to; None for all.
        failures: How often no worker took them.
    """

    future: "Future"
    trials: Stack
    alone: bool
    beside: int
    on: list[str] | None
    failures: int


def _errand() -> Callable[[bytes], Any]:
    """What is submitted: `work` with what it is given, pickled, which need not be readable there.

    A function within a function travels by its code and not by its name. So it runs where there is
    no dpbench, too, and says so: an exception would not tell whose it is.
    """

    def errand(pickled: bytes) -> Any:
        import pickle

        from distributed import get_worker

        try:
            work, *given = pickle.loads(pickled)  # noqa: S301  # ours
            return work(*given)
        except Exception as error:  # whatever it is, it is this worker's
            return {"worker": get_worker().address, "lack": f"{type(error).__name__}: {error}"}

    return errand


def _claimed(trials: Stack, claims: Claims, busy: deque[Stack]) -> Stack:
    """Those that this sweep is to run; those that others run now are put aside."""
    whose = {trial: claims.take(trial) for trial in trials}
    busy.extend((trial,) for trial in trials if whose[trial] is Claim.BUSY)
    return tuple(trial for trial in trials if whose[trial] is Claim.MINE)


def _by_process(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of timings, those of each engine in each process apart."""
    found: dict[tuple[object, object], list[Row]] = {}
    for row in rows:
        found.setdefault((row["engine"], row["process"]), []).append(row)
    return list(found.values())


def _result(future: "Future") -> Any:
    """Its result; None where that is gone."""
    try:
        return future.result()
    except Exception:  # whatever it is, the trial is sent again
        return None
