"""Where and how trials run: on this machine or on a dask cluster, and with how much of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dpbench import strings
from dpbench.errors import BadInput
from dpbench.execution import stacks
from dpbench.execution.user_work import UserWork
from dpbench.measurement import devices

if TYPE_CHECKING:
    from dpbench.execution.backend import Backend, Workers

_OF_A_CLUSTER = ("tls_ca_file", "tls_cert", "tls_key", "gpu_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What trials run on. It cannot change their results but by rounding.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `mps`, or several of `cuda:0`, `cuda:1`, ... to spread
            trials.
        jobs: Trials at a time on each device; None for a worker per core, or one per GPU.
        threads: PyTorch's intra-operator threads of each.
        stack: Most trials of one seed and batch size that are trained at once as one model. `auto`
            is `stacks.AUTO_ON_GPU` on a GPU, and 1 on a CPU.
        physical_batch_size: Most examples in one forward pass; None for 256 on a CPU, 2048 on a
            GPU.
        trial_timeout: Seconds after which a trial is ended; None for no limit.
        scheduler: tcp://HOST:PORT or tls://HOST:PORT of a dask scheduler, whose workers run the
            trials.
        scheduler_file: Instead: the file that the scheduler writes.
        tls_ca_file: As dask's flag.
        tls_cert: As dask's flag.
        tls_key: As dask's flag.
        gpu_share: Of dask's resource GPU that a trial takes.
        other_versions: Whether workers with other versions of dpbench, torch or opacus are used.

    Raises:
        BadInput: A value is out of range, or excludes another.
    """

    device: Sequence[str] = ("auto",)
    jobs: int | None = None
    threads: int = 1
    stack: int | Literal["auto"] = "auto"
    physical_batch_size: int | None = None
    trial_timeout: float | None = None
    scheduler: str | None = None
    scheduler_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    gpu_share: float | None = None
    other_versions: bool = False

    def __post_init__(self) -> None:
        for name in ("jobs", "threads", "physical_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"Expected {name}={value} >= 1.")
        if self.trial_timeout is not None and not self.trial_timeout > 0:
            raise BadInput(f"Expected trial_timeout={self.trial_timeout} > 0.")
        if self.stack != "auto" and not (isinstance(self.stack, int) and self.stack >= 1):
            raise BadInput(f"Expected stack={self.stack!r} to be auto or a number from 1.")
        if self.scheduler is not None and self.scheduler_file is not None:
            raise BadInput("Expected --scheduler or --scheduler-file, not both.")
        if self.on_cluster:
            self._check_cluster()
            return
        for name in _OF_A_CLUSTER:
            if getattr(self, name) is not None:
                raise BadInput(f"Expected --scheduler with --{name.replace('_', '-')}.")

    @property
    def on_cluster(self) -> bool:
        """Whether trials run on a dask cluster."""
        return self.scheduler is not None or self.scheduler_file is not None

    @property
    def on_gpus_of_cluster(self) -> bool:
        """Whether they run on its GPUs."""
        return self.on_cluster and list(self.device) == ["cuda"]

    @property
    def warnings(self) -> list[str]:
        """A sentence where more threads are asked for than this machine has cores."""
        if self.jobs is None or self.on_cluster:
            return []
        cores, asked = devices.cores(), self.jobs * self.threads
        if asked <= cores:
            return []
        return [
            f"jobs={self.jobs} with {strings.counted(self.threads, 'thread')} each on "
            f"{strings.counted(cores, 'core')}: the trials slow one another, and each takes the "
            "memory of a process. Leave --jobs out for a trial a core."
        ]

    def _check_cluster(self) -> None:
        if self.jobs is not None:
            raise BadInput(
                f"Expected no jobs={self.jobs} with a scheduler: workers' threads say it."
            )
        if list(self.device) not in (["auto"], ["cpu"], ["cuda"]):
            raise BadInput(
                f"Expected device={' '.join(self.device)} to be cpu or cuda on a cluster."
            )
        share = self.gpu_share
        if share is not None and not (self.on_gpus_of_cluster and 0 < share <= 1):
            raise BadInput(f"Expected gpu_share={share} in (0, 1], with --device cuda.")

    def stacked(self, device: str) -> int:
        """Most trials at once as one model, on that device."""
        if self.stack == "auto":
            return stacks.AUTO_ON_GPU if device.startswith("cuda") else 1
        return self.stack


@contextmanager
def open_backend(
    resources: Resources,
    *,
    dataset: str,
    data_root: Path,
    user: UserWork,
    resolve: Callable[[Sequence[str]], tuple[str, ...]] = devices.resolve,
) -> Iterator["Backend"]:
    """Yields where the trials run; a connection to a cluster is closed at the end.

    Args:
        resources: What they run on.
        dataset: That workers of a cluster must have.
        data_root: Where the dataset's files are, on this machine.
        user: The user's data and models among what is trained.
        resolve: From names of devices to devices; `devices.planned` for a plan.

    Raises:
        BadInput: A device is missing, or no scheduler answers.
    """
    if resources.on_cluster:
        with _cluster(resources, dataset, data_root, user) as backend:
            yield backend
        return
    from dpbench.execution.local import LocalBackend

    targets = resolve(resources.device)
    jobs = resources.jobs or (devices.cores() if targets == ("cpu",) else 1)
    yield LocalBackend(_workers(resources, data_root, targets, jobs, user.without_sources()))


@contextmanager
def _cluster(
    resources: Resources, dataset: str, data_root: Path, user: UserWork
) -> Iterator["Backend"]:
    from dpbench.execution import cluster
    from dpbench.execution.cluster import remote_calls

    on_gpu = resources.on_gpus_of_cluster
    address = cluster.Address(
        scheduler=resources.scheduler,
        scheduler_file=resources.scheduler_file,
        tls_ca_file=resources.tls_ca_file,
        tls_cert=resources.tls_cert,
        tls_key=resources.tls_key,
    )
    with cluster.connected(address) as client:
        backend = cluster.DaskBackend(
            client,
            _workers(resources, data_root, ("cuda:0" if on_gpu else "cpu",), jobs=1, user=user),
            remote_calls.Requirements(
                dataset=dataset,
                versions=None if resources.other_versions else remote_calls.versions(),
                device="cuda" if on_gpu else "cpu",
            ),
            gpu_share=(resources.gpu_share or 1.0) if on_gpu else None,
        )
        backend.check()
        yield backend


def _workers(
    resources: Resources,
    data_root: Path,
    targets: tuple[str, ...],
    jobs: int,
    user: UserWork,
) -> "Workers":
    from dpbench.execution.backend import Workers, usual_physical_batch_size

    return Workers(
        data_root=data_root,
        devices=targets,
        jobs=jobs,
        threads=resources.threads,
        physical_batch_size=resources.physical_batch_size or usual_physical_batch_size(targets[0]),
        trial_timeout_seconds=resources.trial_timeout,
        stack=min(map(resources.stacked, targets)),
        user=user,
    )
