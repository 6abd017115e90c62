"""A run of DP-SGD that need not be trained here: its sampling, sizes and delta. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from dpbench.errors import BadInput
from dpbench.privacy import guarantee
from dpbench.trial import SAMPLINGS, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRun:
    """A run of DP-SGD without its noise.

    Attributes:
        sampling: How batches are drawn.
        examples: N; None where the sample rate is given instead.
        batch_size: Expected size of a batch; None where the sample rate is given instead.
        epochs: Of round(N / batch_size) steps; None where steps are given instead.
        sample_rate: Probability with which an example joins a batch; None where it is not needed.
        steps: In all; None where they are not needed.
        delta: Of (epsilon, delta)-DP.
    """

    sampling: Sampling
    examples: int | None
    batch_size: int | None
    epochs: int | None
    sample_rate: float | None
    steps: int | None
    delta: float

    @property
    def warning(self) -> str | None:
        """A sentence where delta is not below one over the number of examples."""
        return None if self.examples is None else guarantee.delta_warning(self.delta, self.examples)

    @property
    def schedule(self) -> tuple[float, int]:
        """Its sample rate and steps; of shuffled batches, a step an epoch with every example.

        In both, an example takes part in so many Gaussian mechanisms.
        """
        if self.sampling == "shuffle":
            return 1.0, self.epochs or 1
        return self.sample_rate or 1.0, self.steps or 1


def private_run(
    *,
    examples: int | None,
    batch_size: int | None,
    epochs: int | None,
    sample_rate: float | None,
    steps: int | None,
    sampling: Sampling,
    delta: float,
) -> PrivateRun:
    """The run that the arguments of `spent_epsilon` name.

    Raises:
        BadInput: They name none, or two, or a value is out of range.
    """
    sizes = {"examples": examples, "batch_size": batch_size, "epochs": epochs, "steps": steps}
    _refuse_out_of_range(sizes, sample_rate=sample_rate, sampling=sampling, delta=delta)
    if sampling == "shuffle" and epochs is None:
        raise BadInput(
            "Expected --epochs with --sampling shuffle: an example joins a batch in each."
        )
    if sample_rate is not None and batch_size is not None:
        raise BadInput("Expected --sample-rate or --batch-size, not both.")
    if steps is not None and epochs is not None:
        raise BadInput("Expected --steps or --epochs, not both.")
    if examples is not None and batch_size is not None:
        if batch_size > examples:
            raise BadInput(f"Expected batch_size={batch_size} <= examples={examples}.")
        sample_rate = batch_size / examples
    if steps is None and epochs is not None and sample_rate is not None:
        steps = epochs * round(1 / sample_rate)
    if sampling == "poisson" and (sample_rate is None or steps is None):
        raise BadInput(
            "Expected the run by --examples, --batch-size and --epochs, or by --sample-rate and "
            "--steps."
        )
    return PrivateRun(
        sampling=sampling,
        examples=examples,
        batch_size=batch_size,
        epochs=epochs,
        sample_rate=sample_rate,
        steps=steps,
        delta=delta,
    )


def _refuse_out_of_range(
    sizes: Mapping[str, int | None], *, sample_rate: float | None, sampling: str, delta: float
) -> None:
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise BadInput(f"Expected {name}={size} >= 1.")
    if not 0 < delta < 1:
        raise BadInput(f"Expected delta={delta} > 0 and < 1.")
    if sample_rate is not None and not 0 < sample_rate <= 1:
        raise BadInput(f"Expected sample_rate={sample_rate} > 0 and <= 1.")
    if sampling not in SAMPLINGS:
        raise BadInput(f"Expected sampling={sampling!r} to be one of {', '.join(SAMPLINGS)}.")
