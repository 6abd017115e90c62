"""What is seen, and where: an epoch of a trial, a timing of steps, and their environment.

A row of a store is the flat union of a `Trial` (asked), an `Epoch` (seen) and an `Environment`
(where); a row of timings is the same with a `StepTiming`. The store's schema is read off these
classes, so a column has one definition. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal

NoiseDerivation = Literal["trial", "system"]
Status = Literal["ok", "failed", "timeout", "out-of-memory", "crashed"]
FAILURES: Mapping[Status, str] = MappingProxyType(
    {
        "failed": "it raised an error, or its loss was no longer finite",
        "timeout": "it ran longer than it was allowed to",
        "out-of-memory": "there was not enough memory for it, then and there",
        "crashed": "its process died, twice",
    }
)
PASSING_FAILURES: tuple[Status, ...] = ("out-of-memory", "crashed")  # another run may do better


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What was seen by the end of one epoch of a trial. Counters count from the trial's start.

    Attributes:
        epoch: From 1; 0 where the trial failed before its first step.
        steps: Optimizer steps taken, counted from the batches that the sampler drew.
        sample_rate: Probability with which an example joins a batch; checked against the count of
            the examples drawn.
        examples_seen: Examples really drawn, repeats counted.
        train_loss: Mean cross entropy of this epoch's examples, each before its step; nats.
        test_loss: Mean cross entropy on the whole test set; nats.
        test_accuracy: Fraction of the whole test set, in [0, 1].
        validation_loss: Mean cross entropy on the examples held out; nats. None where none are.
        validation_accuracy: Fraction of the examples held out, in [0, 1].
        test_balanced_accuracy: Mean over the classes of the fraction of their test examples.
        validation_balanced_accuracy: The same of the examples held out.
        test_auroc: Area under the ROC curve of the test set; None where there are not two classes.
        validation_auroc: The same of the examples held out.
        test_metrics: The user's own metrics on the test set, as a JSON object of numbers.
        validation_metrics: The same of the examples held out. These six are None in schema
            versions before 6.
        epsilon: Spent so far, by `accountant`; infinite without noise, None if non-private.
        accountant: `pld`, or `rdp` where that bound is smaller or PLD gave none (`epsilon_note`
            says why); `gaussian` for shuffled batches: each example once an epoch, without
            amplification by sampling. Schema versions 1 and 2 have `prv` in place of `pld`.
        epsilon_pld: By privacy loss distributions, dp_accounting's.
        epsilon_rdp: By Renyi differential privacy, dp_accounting's.
        epsilon_prv: What Opacus says: the upper end of its PRV accountant. At the last epoch only,
            in schema versions 1 and 2 at each.
        epsilon_gdp: By a central limit theorem; no bound, it can be too low. Diagnostic only.
        epsilon_if_poisson: What `epsilon` would be for Poisson batches, as is often quoted for
            shuffled ones, for which it does not hold. None for Poisson sampling.
        epsilon_note: Why an accountant gave no number.
        dp_accounting_version: Of the accountants of `epsilon`; None in schema versions 1 and 2,
            whose accountants were Opacus'.
        noise_derivation: `trial` where the noise draws from `Trial.noise_seed`, `system` for fresh
            noise. None in schema versions 1 and 2, where it drew from the seed alone: trials of one
            seed shared it, up to its spread.
        system_seed: That sampler and noise drew from, of fresh noise. Who has it can subtract the
            noise: it is not to be published with a model.
        train_seconds: Wall time inside training, evaluation left out. Of stacked trials it is the
            stack's: the same for each of them, and not to be added up.
        examples_per_second: examples_seen / train_seconds. Of stacked trials it is a trial's share:
            the stack's throughput is the sum over its trials, `stacked_trials` times as much.
        status: `ok`, or one of FAILURES.
        reason: Why it failed.
        traceback: Where in the program; file names are relative to their packages' folder.
    """

    epoch: int
    steps: int | None = None
    sample_rate: float | None = None
    examples_seen: int | None = None
    train_loss: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    test_balanced_accuracy: float | None = None
    validation_balanced_accuracy: float | None = None
    test_auroc: float | None = None
    validation_auroc: float | None = None
    test_metrics: str | None = None
    validation_metrics: str | None = None
    epsilon: float | None = None
    accountant: str | None = None
    epsilon_pld: float | None = None
    epsilon_rdp: float | None = None
    epsilon_prv: float | None = None
    epsilon_gdp: float | None = None
    epsilon_if_poisson: float | None = None
    epsilon_note: str | None = None
    dp_accounting_version: str | None = None
    noise_derivation: NoiseDerivation | None = None
    system_seed: int | None = None
    train_seconds: float | None = None
    examples_per_second: float | None = None
    status: Status = "ok"
    reason: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTiming:
    """One timed block of an engine's steps beside one of the non-private step.

    Attributes:
        dataset: Whose examples were trained on.
        model: The network.
        data_hash: As `Trial.data_hash`; the following, too, are those of a trial.
        model_args: As `Trial.model_args`.
        model_hash: As `Trial.model_hash`.
        loss: As `Trial.loss`.
        loss_hash: As `Trial.loss_hash`.
        engine: How the step was computed; or the tutorial's loop, its loader included.
        batch_size: Expected size of the Poisson batches; engines and baseline saw the same ones.
        pair: From 0.
        order: Which block came first.
        steps: In each block.
        seconds_per_step: Of the engine; synchronised at both ends.
        baseline_seconds_per_step: Of the non-private step.
        peak_memory_bytes: How far such steps raise what is allocated on a GPU, or the resident
            memory of a process of their own on a CPU (see `memory`); the same for all pairs. None
            where that is not known.
        alone: Whether other processes used less than a tenth of one processor meanwhile.
        status: `ok`, or one of FAILURES: then the row is the timing's only one, and what was to be
            measured is null.
        reason: Why it failed.
        process: Which of the processes that measured this timing took the pair, from 0; each has
            pairs from 0. None in rows of older versions, whose pairs are all of one process.
    """

    dataset: str
    model: str
    data_hash: str | None = None
    model_args: str | None = None
    model_hash: str | None = None
    loss: str | None = None
    loss_hash: str | None = None
    engine: str
    batch_size: int
    pair: int
    order: Literal["engine-first", "baseline-first"]
    steps: int
    seconds_per_step: float
    baseline_seconds_per_step: float
    peak_memory_bytes: int | None
    alone: bool
    status: Status = "ok"
    reason: str | None = None
    process: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where and when a row was measured: what can change its speed, but not its mathematics.

    Attributes:
        dpbench_version: Of this package.
        dpbench_commit: Of the checkout that it runs from, `-dirty` appended where tracked files
            differ; None outside a checkout.
        python_version: Of the interpreter.
        torch_version: With its build tag.
        opacus_version: Of the Opacus engines and of `epsilon_prv`.
        implementation: The engine that really computed the step: the one that was asked for, or its
            stand-in where it cannot (`EngineSpec.stand_in`); `stacked` for stacked trials.
        device: `cpu`, `cuda:0`, ...
        device_name: Model of the processor or GPU; None where a trial was lost on a GPU.
        threads: PyTorch's intra-operator threads.
        memory_format: Layout of the weights and activations.
        physical_batch_size: Most examples in one forward pass; None for whole batches.
        workers_beside: Other trials that ran at the same time.
        started_at: When the trial or the timing began (UTC).
        stacked_trials: Trials that were trained at once as one model, this one counted; 1 where it
            was alone. None of timings, where it is not known, and in rows before schema 3.
    """

    dpbench_version: str
    dpbench_commit: str | None
    python_version: str
    torch_version: str
    opacus_version: str
    implementation: str
    device: str
    device_name: str | None
    threads: int
    memory_format: str
    physical_batch_size: int | None
    workers_beside: int
    started_at: datetime
    stacked_trials: int | None = None


# What can change a step's time: an engine, dataset and batch size are timed once under each. Not
# the commit: after a change that is to be measured, `python -m dpbench.timing` times anew.
TIMED_UNDER = (
    "device",
    "device_name",
    "threads",
    "physical_batch_size",
    "dpbench_version",
    "torch_version",
    "opacus_version",
)
