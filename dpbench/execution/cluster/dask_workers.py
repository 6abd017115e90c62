"""The workers of a cluster: which there are, which can run the trials, and how many at a time."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dpbench import console
from dpbench.errors import ClusterError
from dpbench.execution.cluster import remote_calls
from dpbench.execution.cluster.messages import first_line

if TYPE_CHECKING:
    from distributed import Client

ANSWER_SECONDS = 30.0  # for a worker to say what it lacks; it may import torch for that
GPU = "GPU"  # the resource that workers with a GPU announce, as dask's documentation names it
_REFRESH_SECONDS = 2.0  # between requests for the list of workers
_SUBMITTED_AHEAD = 2  # trials for each place, so that no worker waits for the driver
_GONE = ("closing", "closed")  # states of a client that has lost its scheduler for good


class DaskWorkers:
    """The workers that a scheduler has at this moment.

    Args:
        client: Of the scheduler.
        requirements: What each worker must have.
        gpu_share: What a trial takes of the resource `GPU`; None on a CPU.
    """

    def __init__(
        self, client: "Client", requirements: remote_calls.Requirements, gpu_share: float | None
    ) -> None:
        self.client, self.requirements = client, requirements
        self.resources = {} if gpu_share is None else {GPU: gpu_share}
        self._address = client.scheduler.address
        self._unfit: dict[str, str] = {}  # by address: what the worker lacks
        self._places: dict[str, int] = {}  # by address: trials at a time
        self._refreshed_at = -_REFRESH_SECONDS
        self._said = ""

    def check(self) -> None:
        """Raises ClusterError if there is no worker, or one that lacks something.

        Workers that do not answer, or leave meanwhile, are skipped if others do.
        """
        with self.scheduler_errors():
            there = list(self.client.nthreads())
            if not there:
                raise ClusterError(
                    f"Expected workers at {self._address}, and there are none; start some: "
                    "dask worker ADDRESS --nthreads 1"
                )
            with ThreadPoolExecutor(min(len(there), 64)) as threads:
                answers = dict(zip(there, threads.map(self._lack, there), strict=True))
            still = self.client.nthreads()
        silent = [worker for worker, lack in answers.items() if isinstance(lack, OSError)]
        for worker, lack in answers.items():
            if isinstance(lack, Exception) and worker not in silent:
                raise ClusterError(f"The worker {worker} cannot run dpbench: {first_line(lack)}")
            if isinstance(lack, str):
                problem = lack.rstrip(".")
                raise ClusterError(f"The worker {worker} cannot run this sweep: {problem}.")
        if len(silent) == len(answers):
            raise ClusterError(f"Expected workers at {self._address} that answer, and none does.")
        self._unfit |= {worker: "it does not answer" for worker in silent if worker in still}
        if silent:
            console.say(f"Passed over, for they do not answer: {', '.join(silent)}.")
        self._refreshed_at = -_REFRESH_SECONDS  # workers may have come meanwhile
        if not self.fit() and self.resources:
            raise ClusterError(
                f"Expected a worker with {self.resources[GPU]:g} of the resource GPU for --device "
                'cuda; start one for each GPU: dask worker ADDRESS --resources "GPU=1"'
            )

    def _lack(self, worker: str) -> str | Exception | None:
        """What the worker lacks; OSError if it does not answer in time."""
        try:
            lack: str | Exception | None = self.ask(worker, remote_calls.lacks, self.requirements)
        except Exception as error:  # TimeoutError, or the worker has left
            return error if isinstance(error, OSError) else OSError(str(error))
        return lack

    def ask(self, worker: str, function: Callable[..., Any], *given: Any) -> Any:
        """What the function returns or raises on the worker; OSError if that has left."""
        answers = self.client.run(
            function,
            *given,
            workers=[worker],
            on_error="return",
            callback_timeout=ANSWER_SECONDS,
        )
        return answers.get(worker, OSError("it has left"))

    def fit(self) -> Mapping[str, int]:
        """The workers that lack nothing, as far as is known, and the trials that each takes."""
        if time.monotonic() > self._refreshed_at + _REFRESH_SECONDS:
            with self.scheduler_errors():
                try:
                    self._refresh()
                except OSError:
                    self._say(f"The scheduler at {self._address} does not answer; waiting for it.")
            self._refreshed_at = time.monotonic()
        return {each: n for each, n in self._places.items() if n and each not in self._unfit}

    def room(self) -> int:
        """How many trials are to be submitted; none if there are only unfit workers."""
        fit = self.fit()
        return max(0 if self._unfit and not fit else 1, _SUBMITTED_AHEAD * sum(fit.values()))

    def allowed(self) -> list[str] | None:
        """The workers that trials may go to; None for all."""
        return list(self.fit()) if self._unfit else None

    def exclude(self, unfit: remote_calls.Unfit) -> None:
        """Sends nothing more to the worker; raises ClusterError if it was the last one."""
        if unfit.worker not in self._unfit:
            lack = unfit.lack.rstrip(".")
            self._unfit[unfit.worker] = lack
            console.say(f"No trial for the worker {unfit.worker}: {lack}.")
            if not self.fit():
                raise ClusterError(f"No worker is left: {lack}.")

    def _refresh(self) -> None:
        threads = self.client.nthreads()
        share = self.resources.get(GPU)
        if share is None:
            self._places = dict(threads)
        elif threads.keys() != self._places.keys():
            known = self.client.scheduler_info(n_workers=-1)["workers"]
            self._places = {
                worker: min(each["nthreads"], int(each["resources"].get(GPU, 0) / share + 1e-9))
                for worker, each in known.items()
            }
        for worker in self._unfit.keys() - threads.keys():
            del self._unfit[worker]  # what comes back at that address is another one
        if any(n and worker not in self._unfit for worker, n in self._places.items()):
            self._said = ""
        else:
            self._say("There is no worker now that can run this; waiting for one.")

    def _say(self, line: str) -> None:
        """Prints the line, unless it was the last one."""
        if line != self._said:
            self._said = line
            console.say(line)

    @contextmanager
    def scheduler_errors(self) -> Iterator[None]:
        """Raises ClusterError if the scheduler has gone for good."""
        try:
            yield
        except Exception as error:
            if isinstance(error, ClusterError) or self.client.status not in _GONE:
                raise
        if self.client.status in _GONE:
            raise ClusterError(
                f"The scheduler at {self._address} has gone; what is finished is written; the same "
                "command carries on."
            )
