"""Audits: runs with canaries, and what they found."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench.auditing import audited_tasks
from dpbench.auditing.claim import Break, Claim, default_batch_size
from dpbench.measurement import devices

if TYPE_CHECKING:
    from torch import nn

    from dpbench.auditing.finding import Finding
    from dpbench.datasets import Data

_DEFAULT = Claim(engine="fused")


def run_audit(
    engine: str | None = None,
    *,
    model: "str | Callable[..., nn.Module] | None" = None,
    model_args: Mapping[str, Any] | None = None,
    dataset: "str | Callable[[Path], Data] | Data | None" = None,
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
        BadInput: An argument is out of range, or the device is missing.
    """
    if batch_size is None:
        batch_size = default_batch_size(canaries, broken)
    task = audited_tasks.task(
        model, model_args, dataset, None if data_root is None else Path(data_root)
    )
    claim = Claim(
        engine=engine or ("fused" if task is None else audited_tasks.fastest(task)),
        task=task,
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
    (resolved,) = devices.resolve([device])
    return audit(replace(claim, device=resolved))


def audit(claim: Claim) -> "Finding":
    """Trains the audited runs and bounds epsilon from below."""
    import numpy as np

    from dpbench.auditing.audited_run import audited_run
    from dpbench.auditing.finding import judge

    seeds = np.random.SeedSequence(claim.seed).spawn(claim.runs)
    runs = [audited_run(claim, seed) for seed in seeds]
    return judge(claim, [run.guesses for run in runs], [run.residuals for run in runs])
