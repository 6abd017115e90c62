"""The nouns: what was asked, what was seen, and where.

A row of a store is the flat union of a `Trial` (asked), an `Epoch` (seen) and an `Environment`
(where); a row of timings is the same with a `StepTiming`. The store's schema is read off these
classes, so a column has one definition. Standard library only.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Literal, Self, get_args

from dpbench import plugins
from dpbench.errors import BadInput

DEFAULT_MODEL = "tutorial-cnn"
NON_PRIVATE = "non-private"  # the engine of the baseline

# Names of users' code and data, each with the field that tells one version of the name from another
USER_VERSIONS = (("model", "model_hash"), ("dataset", "data_hash"), ("loss", "loss_hash"))

# Fields that tell one version of a user's data, model or loss from another; None of built-in ones
USER_FIELDS = ("data_hash", "model_args", "model_hash", "loss", "loss_hash")

Sampling = Literal["poisson", "shuffle"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)

# Noise multipliers that the accountants can take, besides 0
LEAST_NOISE, MOST_NOISE = 1e-12, 1e6

# The tutorial's loop: timed beside the engines, end to end with its own loader, and never trained
TUTORIAL_ARMS = ("tutorial-non-private", "opacus-as-shipped")

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
class Trial:
    """One configuration, trained once with one seed.

    Epsilon is stated with one example as the unit. Poisson sampling: for neighbours that differ by
    adding or removing it. Shuffled batches: for neighbours where it is replaced by one without a
    gradient (zero-out), so that the number of examples, and with it the batches, stay as they are.

    Attributes:
        dataset: A name from `datasets.names`, or that of a user's dataset, such as `mine.py:load`.
        data_hash: Of a user's dataset. None for a built-in one.
        model: A name from `models.names`; `tutorial-cnn` is that of the Opacus MNIST tutorial. Of a
            user's model its name with its arguments, such as `mine.py:make(width=16)`.
        model_args: Those arguments as a JSON object; None where there are none.
        model_hash: Of a user's model: of its sources, or its DPBENCH_VERSION. None for a built-in.
        loss: Name of a user's loss, such as `mine.py:loss`. None for cross entropy.
        loss_hash: As `model_hash`, of the loss.
        engine: How the training step is computed: a name from `engines.names`.
        sampling: How batches are drawn. `poisson`: every example joins every batch independently
            with probability batch_size / N. `shuffle`: each epoch cuts a fresh permutation of the
            examples into its steps' batches, as even as can be.
        noise_multiplier: Standard deviation of the noise over max_grad_norm, from 1e-12 to 1e6; 0
            clips without noise. None for a non-private engine.
        max_grad_norm: L2 bound on each example's gradient. None for a non-private engine.
        clipping: How examples' gradients are scaled to max_grad_norm: a name from
            `clipping.names`. `flat` for a non-private engine.
        batch_size: Expected size of a Poisson batch, and the divisor of the summed gradients.
        optimizer: A name from `optimizers.names`: takes the step along the noisy mean.
        learning_rate: Of the optimizer.
        momentum: Of SGD, in [0, 1).
        epochs: An epoch is round(N / batch_size) steps.
        validation_examples: Training examples, the same in every trial, that are held out for
            choosing; N counts the others. None holds out none.
        seed: Initial weights and sampler draw from generators spawned from it; trials of one seed
            start alike and see the same batches, so that they compare in pairs. The noise draws
            from a hash of the whole trial but its engine and epochs, so that no two trials share
            any (`noise_seed`).
        delta: Of (epsilon, delta)-DP. None for a non-private engine.
        noise_source: `system` where sampler and noise draw from a seed that the system gives
            instead, and that nobody can derive from the trial. None for the trial's own.

    Raises:
        BadInput: A field is out of its range.
    """

    dataset: str
    data_hash: str | None = None
    model: str = DEFAULT_MODEL
    model_args: str | None = None
    model_hash: str | None = None
    loss: str | None = None
    loss_hash: str | None = None
    engine: str
    sampling: Sampling = "poisson"
    noise_multiplier: float | None
    max_grad_norm: float | None
    clipping: str = "flat"
    batch_size: int
    optimizer: str = "sgd"
    learning_rate: float
    momentum: float = 0.0
    epochs: int
    validation_examples: int | None = None
    seed: int = 0
    delta: float | None
    noise_source: Literal["system"] | None = None

    def __post_init__(self) -> None:
        for name, package in (
            ("engine", "engines"),
            ("optimizer", "optimizers"),
            ("clipping", "clipping"),
        ):
            _expect_one_of(name, getattr(self, name), plugins.names(package))
        _expect_one_of("sampling", self.sampling, SAMPLINGS)
        self._expect_privacy()
        noise = self.noise_multiplier
        most, least = f">= 0 and <= {MOST_NOISE:,.0f}", f">= {LEAST_NOISE:g}, or 0"
        _expect("noise_multiplier", noise, most, lambda v: 0 <= v <= MOST_NOISE)
        _expect("noise_multiplier", noise, least, lambda v: v == 0 or v >= LEAST_NOISE)
        _expect("max_grad_norm", self.max_grad_norm, "> 0", lambda v: v > 0)
        _expect("delta", self.delta, "> 0 and < 1", lambda v: 0 < v < 1)
        _expect("batch_size", self.batch_size, ">= 1 and < 2**31", lambda v: 1 <= v < 2**31)
        _expect("learning_rate", self.learning_rate, "> 0", lambda v: v > 0)
        _expect("momentum", self.momentum, ">= 0 and < 1", lambda v: 0 <= v < 1)
        _expect("epochs", self.epochs, ">= 1 and < 2**31", lambda v: 1 <= v < 2**31)
        _expect("validation_examples", self.validation_examples, ">= 1", lambda v: v >= 1)
        _expect("seed", self.seed, ">= 0 and < 2**63", lambda v: 0 <= v < 2**63)
        for name in ("noise_multiplier", "max_grad_norm", "learning_rate", "momentum", "delta"):
            value = getattr(self, name)
            if value is not None:  # so that 1 and 1.0 are the same trial
                object.__setattr__(self, name, float(value))
        if self.noise_source not in ("system", None):
            raise BadInput(f"Expected noise_source={self.noise_source!r} to be system or None.")
        refusal = plugins.spec("optimizers", self.optimizer).refusal(self)
        if refusal is not None:
            raise BadInput(refusal)

    def _expect_privacy(self) -> None:
        """Raises BadInput unless the privacy parameters are those of the engine's kind."""
        privacy = (self.noise_multiplier, self.max_grad_norm, self.delta)
        if plugins.spec("engines", self.engine).private:
            if None in privacy:
                raise BadInput(
                    "Expected noise_multiplier, max_grad_norm and delta to be numbers for "
                    f"engine={self.engine!r}, not {privacy}."
                )
        elif privacy != (None, None, None):
            raise BadInput(
                "Expected noise_multiplier, max_grad_norm and delta to be None for the "
                f"{self.engine} engine, not {privacy}."
            )
        elif self.clipping != "flat":
            raise BadInput(
                f"Expected clipping={self.clipping!r} to be flat for the {self.engine} engine, "
                "which does not clip."
            )

    @property
    def private(self) -> bool:
        """Whether the trial clips and adds noise."""
        return self.noise_multiplier is not None

    @property
    def trial_id(self) -> str:
        """Sixteen hex digits, a hash of every field that is not None, nor a later one's default."""
        return _id(self)

    @property
    def noise_seed(self) -> int:
        """Of the noise, 63 bits: a hash of every field that is not None but `engine` and `epochs`.

        Engines of one trial draw the same noise, so that their steps compare. A longer trial draws
        that of a shorter one and goes on: it passes through the shorter one's weights, which its
        epsilon covers. (A schedule that depends on the number of epochs would have to be hashed.)
        """
        return int(_hash(self, without=("engine", "epochs")).hexdigest(), 16) % 2**63

    def __str__(self) -> str:
        parts: list[str] = [self.engine]
        if self.model != DEFAULT_MODEL:
            parts.append(self.model)
        if self.loss is not None:
            parts.append(self.loss)
        if self.private:
            parts.append(f"noise {self.noise_multiplier:g} clip {self.max_grad_norm:g}")
        parts.append(f"batch {self.batch_size} lr {self.learning_rate:g}")
        if self.momentum:
            parts.append(f"momentum {self.momentum:g}")
        parts += [getattr(self, name) for name in _LATER if getattr(self, name) != _LATER[name]]
        if self.sampling != "poisson":
            parts.append(self.sampling)
        if self.noise_source == "system":
            parts.append("fresh noise")
        return " ".join([*parts, f"seed {self.seed}"])


# Fields that came after the first trials were published: left out of hashes at these defaults
_LATER: Mapping[str, str] = MappingProxyType({"optimizer": "sgd", "clipping": "flat"})


@cache  # the fields are hashed faster than written out
def _id(trial: Trial) -> str:
    return _hash(trial).hexdigest()[:16]


def _hash(trial: Trial, without: Collection[str] = ()) -> "hashlib._Hash":
    values = ((name, getattr(trial, name)) for name in sorted(trial.__slots__))
    fields = {
        name: value
        for name, value in values
        if value not in (None, _LATER.get(name)) and name not in without
    }
    return hashlib.sha256(json.dumps(fields).encode())


def _expect_one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise BadInput(f"Expected {name}={value!r} to be one of {', '.join(known)}.")


def _expect(name: str, value: float | None, bound: str, holds: Callable[[float], bool]) -> None:
    if value is not None and not (math.isfinite(value) and holds(value)):
        raise BadInput(f"Expected {name}={value!r} {bound}.")


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
class Workload:
    """The task whose step is timed, whatever the engine.

    Attributes:
        dataset: As `Trial.dataset`.
        model: As `Trial.model`.
        batch_size: Expected size of the Poisson batches.
        data_hash: As `Trial.data_hash`; the following, too, are those of a trial.
        model_args: As `Trial.model_args`.
        model_hash: As `Trial.model_hash`.
        loss: As `Trial.loss`.
        loss_hash: As `Trial.loss_hash`.
    """

    dataset: str
    model: str
    batch_size: int
    data_hash: str | None = None
    model_args: str | None = None
    model_hash: str | None = None
    loss: str | None = None
    loss_hash: str | None = None

    @property
    def of_user(self) -> bool:
        """Whether its model, data or loss is the user's, and not built in."""
        return any(getattr(self, name) is not None for name in USER_FIELDS)

    @classmethod
    def of(cls, trial: Trial, batch_size: int | None = None) -> Self:
        """The task of the trial's steps, at its batch size or another."""
        return cls(
            dataset=trial.dataset,
            model=trial.model,
            batch_size=batch_size or trial.batch_size,
            **{name: getattr(trial, name) for name in USER_FIELDS},
        )


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


# The optimizer and clipping rule of every step that is timed
TIMED_STEP: Mapping[str, str] = MappingProxyType({"optimizer": "sgd", "clipping": "flat"})

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
