"""Audits as they are asked for: names and functions -> claims, whose engines are checked first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import datasets, engines
from dpbench.auditing.audits import audit
from dpbench.auditing.claim import Break, Claim, default_batch_size
from dpbench.datasets import resolution
from dpbench.errors import BadInput
from dpbench.execution import engine_checks, workloads
from dpbench.measurement import devices
from dpbench.trial import Workload

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dpbench.auditing.finding import Finding
    from dpbench.datasets import Data

_DEFAULT = Claim(engine="fused")


def run_audit(
    engine: str | None = None,
    *,
    model: "str | Callable[..., nn.Module] | None" = None,
    model_args: Mapping[str, Any] | None = None,
    dataset: "str | Callable[[Path], Data] | Data | None" = None,
    loss: "str | Callable[..., Tensor] | None" = None,
    data_root: str | Path | None = None,
    noise_multiplier: float = _DEFAULT.noise_multiplier,
    max_grad_norm: float = _DEFAULT.max_grad_norm,
    batch_size: int | None = None,
    epochs: int = _DEFAULT.epochs,
    delta: float = _DEFAULT.delta,
    canaries: int = _DEFAULT.canaries,
    runs: int = _DEFAULT.runs,
    confidence: float = _DEFAULT.confidence,
    seed: int = _DEFAULT.seed,
    broken: Break | None = None,
    device: str = "auto",
) -> "Finding":
    """Trains an engine with canaries and bounds its epsilon from below. Nothing is written.

        finding = dpbench.run_audit("fused")
        assert finding.consistent, finding.verdict

    Defaults are those of `dpbench audit`. It uses the torch threads that the process has; one is
    fastest.

    Args:
        engine: Whose step is audited; None for the fastest.
        model: What is trained, a name or a function of yours; None for the tutorial's CNN, for
            which the canaries are made. Those of other models are random, and show less.
        model_args: Of your function, one value each.
        dataset: Whose inputs the canaries are like: a name, a function of yours, or data.
        loss: A function (outputs, targets) -> losses [B], or its name; None for cross entropy.
        data_root: As of `run_sweep`.
        noise_multiplier: Claimed.
        max_grad_norm: Claimed.
        batch_size: Expected size of the Poisson batches of all canaries; None for all of them, or
            half of them where `broken` needs more than one step an epoch.
        epochs: Of round(canaries / batch_size) steps.
        delta: At which epsilon is claimed and bounded.
        canaries: In each run. They are the whole dataset.
        runs: Independent runs, each with its own canaries, coins and noise.
        confidence: With which all bounds hold together.
        seed: Of everything random.
        broken: A defect to plant in the step while the claim stays; the audit must find it.
        device: `auto`, `cpu` or `cuda:N`.

    Raises:
        BadInput: An argument is out of range, the device is missing, or the engine is not right
            for the model.
    """
    if batch_size is None:
        batch_size = default_batch_size(canaries, broken)
    root = resolution.data_root(None if data_root is None else Path(data_root))
    task = audited_task(model, model_args, dataset, loss, root)
    if engine is None:
        engine = _DEFAULT.engine if task is None else _fastest(task, root)
    claim = Claim(
        engine=engine,
        task=task,
        data_root=root,
        noise_multiplier=noise_multiplier,
        max_grad_norm=max_grad_norm,
        batch_size=batch_size,
        epochs=epochs,
        delta=delta,
        canaries=canaries,
        runs=runs,
        confidence=confidence,
        seed=seed,
        broken=broken,
    )
    audited_engines(task, root, [engine])
    (resolved,) = devices.resolve([device])
    return audit(replace(claim, device=resolved))


def audited_task(
    model: "str | Callable[..., nn.Module] | None",
    model_args: Any,
    dataset: "str | Callable[[Path], Data] | Data | None",
    loss: "str | Callable[..., Tensor] | None",
    data_root: Path,
) -> Workload | None:
    """The model, on inputs like the dataset's; None, for the tutorial's CNN, where none is named.

    Raises:
        BadInput: As `workloads.workload`.
    """
    if model is None and dataset is None and loss is None:
        if model_args:
            raise BadInput("Expected a model of yours with model_args: name it with --model.")
        return None
    return workloads.workload(
        dataset=datasets.DEFAULT if dataset is None else dataset,
        model=model,
        model_args=model_args,
        loss=loss,
        data_root=data_root,
    )


def audited_engines(
    task: Workload | None, data_root: Path, named: Sequence[str] | None = None
) -> list[str]:
    """The engines to audit: the named ones, or the private ones that are right for the task.

    Raises:
        BadInput: A named engine is not right for the task, or none is.
    """
    private = engines.private_names()
    if task is None:
        return list(named or private)
    if named is None:
        return engine_checks.right(
            [name for name in private if engines.has_own_step(name, task)], task, data_root
        )
    engine_checks.refuse_timed(named, task, data_root)
    return list(named)


def _fastest(task: Workload, data_root: Path) -> str:
    trial = engines.timing_trial(engines.private_names()[0], task)
    return engine_checks.fastest_right(trial, data_root)
