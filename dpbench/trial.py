"""What is asked: a trial, and the task whose step is timed. Standard library only.

The fields of a `Trial` are columns of a store, beside those of `observations`.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
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


# The optimizer and clipping rule of every step that is timed
TIMED_STEP: Mapping[str, str] = MappingProxyType({"optimizer": "sgd", "clipping": "flat"})
