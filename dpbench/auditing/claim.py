"""The claim that an audit tests, and the size of the audit. No torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dpbench import engines
from dpbench.errors import BadInput
from dpbench.trial import Trial, Workload

Break = Literal[
    "noise-0.8", "noise-halved", "noise-once-per-epoch", "noise-repeated", "no-clipping"
]
BREAKS: tuple[Break, ...] = get_args(Break)

PARAMETERS = 26_010  # of the model; more than there are canaries
STEP_LENGTH = 0.01  # learning rate x clipping norm: the weights move, and stay near where they were


def default_batch_size(canaries: int, broken: Break | None) -> int:
    """All canaries, so that an epoch is one step and each step shows as much as possible.

    Half of them for `noise-once-per-epoch`, which needs an epoch of two steps.
    """
    return canaries // 2 if broken == "noise-once-per-epoch" else canaries


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The privacy that an engine claims, and the size of the audit.

    Attributes:
        engine: Whose step.
        noise_multiplier: Claimed, above 0.
        max_grad_norm: Claimed.
        batch_size: Expected size of the Poisson batches drawn from all canaries, in or out.
        epochs: Of round(canaries / batch_size) steps.
        canaries: In each run; the whole dataset.
        runs: Independent ones, each with its own canaries, coins and noise.
        seed: What every run's seeds are spawned from.
        delta: At which epsilon is claimed and bounded.
        confidence: With which a bound holds, in (0, 1).
        device: `cpu` or `cuda:N`.
        broken: A defect planted in the step while the claim stays; None for the engine as it is.
        task: The model that is trained, on inputs like the dataset's; its batch size is not looked
            at. None for the tutorial's CNN and canaries that are made for it.
        data_root: Where a task with a loss of the user's finds its targets.

    Raises:
        BadInput: A field is out of its range.
    """

    engine: str
    noise_multiplier: float = 2.4
    max_grad_norm: float = 1.0
    batch_size: int = 512
    epochs: int = 4
    canaries: int = 512
    runs: int = 6
    seed: int = 0
    delta: float = 1e-5
    confidence: float = 0.95
    device: str = "cpu"
    broken: Break | None = None
    task: Workload | None = None
    data_root: Path | None = None

    def __post_init__(self) -> None:
        private = engines.private_names()
        if self.engine not in private:
            raise BadInput(
                f"Expected engine={self.engine!r} to be one of {', '.join(private)}: there is no "
                "claim to audit in another."
            )
        if not self.noise_multiplier > 0:
            raise BadInput(
                f"Expected noise_multiplier={self.noise_multiplier} > 0: without noise no epsilon "
                "is claimed."
            )
        if self.canaries < 16:
            raise BadInput(f"Expected canaries={self.canaries} >= 16: fewer can show nothing.")
        if self.task is None and self.canaries >= PARAMETERS:
            raise BadInput(
                f"Expected canaries={self.canaries} < {PARAMETERS:,}, the parameters of the model: "
                "in fewer numbers than canaries they cannot be told apart; give more --runs."
            )
        if self.batch_size > self.canaries:
            raise BadInput(
                f"Expected batch_size={self.batch_size} <= canaries={self.canaries}, which are the "
                "whole dataset; give more with --canaries."
            )
        if self.runs < 1:
            raise BadInput(f"Expected runs={self.runs} >= 1.")
        if not 0 < self.confidence < 1:
            raise BadInput(f"Expected confidence={self.confidence} > 0 and < 1, such as 0.95.")
        _ = self.trial  # checks the rest
        if self.broken == "noise-once-per-epoch" and self.steps_per_epoch < 2:
            raise BadInput(
                f"Expected batch_size={self.batch_size} to be at most two thirds of canaries="
                f"{self.canaries} with broken={self.broken!r}: an epoch of one step has its noise."
            )

    @property
    def sample_rate(self) -> float:
        """The probability with which a canary that is in joins a batch."""
        return self.batch_size / self.canaries

    @property
    def steps_per_epoch(self) -> int:
        """As in training."""
        return round(self.canaries / self.batch_size)

    @property
    def steps(self) -> int:
        """Of each run."""
        return self.epochs * self.steps_per_epoch

    @property
    def trial(self) -> Trial:
        """The claim as a trial, from which the engine is built."""
        of_task: dict[str, Any] = {"dataset": "mnist"}  # canaries have its shape
        if self.task is not None:
            of_task = asdict(self.task)
            del of_task["batch_size"]
        return Trial(
            **of_task,
            engine=self.engine,
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.max_grad_norm,
            batch_size=self.batch_size,
            learning_rate=STEP_LENGTH / self.max_grad_norm,
            epochs=self.epochs,
            seed=self.seed,
            delta=self.delta,
        )
