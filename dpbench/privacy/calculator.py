"""The epsilon of a DP-SGD run that is not trained, or the noise that an epsilon needs. No torch."""

from dpbench.errors import BadInput
from dpbench.privacy import run_count, spending
from dpbench.privacy.dpsgd_run import PrivateRun, private_run
from dpbench.privacy.run_count import RunCount
from dpbench.privacy.spending import SpentEpsilon
from dpbench.trial import Sampling


def spent_epsilon(
    noise_multiplier: float | None = None,
    *,
    target_epsilon: float | None = None,
    total_epsilon: float | None = None,
    search: str | float | None = None,
    examples: int | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    sample_rate: float | None = None,
    steps: int | None = None,
    sampling: Sampling = "poisson",
    delta: float = 1e-5,
) -> SpentEpsilon:
    """The epsilon of a DP-SGD run, or the noise that a target epsilon needs. Nothing is trained.

    The run is named by examples, batch_size and epochs, or by sample_rate and steps.

        dpbench.spent_epsilon(1.1, examples=60_000, batch_size=256, epochs=10).epsilon  # 0.918
        dpbench.spent_epsilon(
            target_epsilon=3, examples=60_000, batch_size=256, epochs=10
        ).noise_multiplier

    Neighbours differ by adding or removing one example, the unit is one example, and batches are
    Poisson samples; shuffled batches have no amplification by sampling, and neighbours in which
    one example's gradient is replaced by zero.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        target_epsilon: Instead: the least noise multiplier that spends no more is solved for.
        total_epsilon: Instead: the same for the whole search.
        search: The best of a random number of such runs is published, and nothing of the others.
            The mean of the number, or its distribution and mean: `poisson:20`, `geometric:20` or
            `logarithmic:20`.
        examples: N, of the training set.
        batch_size: Expected size of a batch.
        epochs: Of round(N / batch_size) steps.
        sample_rate: batch_size / N.
        steps: In all.
        sampling: `poisson` or `shuffle`.
        delta: Of (epsilon, delta)-DP.

    Raises:
        BadInput: The run is named twice or in part, a value is out of range, or the target cannot
            be reached.
    """
    run = private_run(
        examples=examples,
        batch_size=batch_size,
        epochs=epochs,
        sample_rate=sample_rate,
        steps=steps,
        sampling=sampling,
        delta=delta,
    )
    return spent_by_run(
        run,
        noise_multiplier=noise_multiplier,
        target_epsilon=target_epsilon,
        total_epsilon=total_epsilon,
        search=None if search is None else run_count.parsed(str(search)),
    )


def spent_by_run(
    run: PrivateRun,
    *,
    noise_multiplier: float | None = None,
    target_epsilon: float | None = None,
    total_epsilon: float | None = None,
    search: RunCount | None = None,
) -> SpentEpsilon:
    """What the run spends with the noise, or with the noise that the target needs.

    Args:
        run: Without its noise.
        noise_multiplier: As of `spent_epsilon`.
        target_epsilon: As of `spent_epsilon`.
        total_epsilon: As of `spent_epsilon`.
        search: The number of such runs of which the best is published; None of one run.

    Raises:
        BadInput: Not one of the three is given, it is out of range, or it cannot be reached.
    """
    given = (noise_multiplier, target_epsilon, total_epsilon)
    if sum(each is not None for each in given) != 1:
        raise BadInput("Expected one of --noise-multiplier, --target-epsilon and --total-epsilon.")
    if total_epsilon is not None and search is None:
        raise BadInput(
            f"Expected --search with total_epsilon={total_epsilon:g}: how many runs it is spent on."
        )
    if noise_multiplier is None:
        noise_multiplier = _solved(run, target_epsilon, total_epsilon, search)
    spent = spending.by_run(run, noise_multiplier, target_epsilon=target_epsilon)
    if search is None:
        return spent
    return spending.by_search(run, spent, search, total_epsilon=total_epsilon)


def _solved(
    run: PrivateRun,
    target_epsilon: float | None,
    total_epsilon: float | None,
    search: RunCount | None,
) -> float:
    """The least noise multiplier that spends no more than the target, of a run or in all."""
    name, target = ("target_epsilon", target_epsilon)
    if target is None:
        name, target = ("total_epsilon", total_epsilon)
    assert target is not None
    if not 0 < target < float("inf"):
        raise BadInput(f"Expected {name}={target} > 0 and finite.")
    if total_epsilon is not None:
        from dpbench.privacy import selection

        assert search is not None
        schedule = run.schedule
        noises = selection.noise_multipliers_for(target, [schedule], search, delta=run.delta)
        return noises[schedule]
    from dpbench.privacy import calibration

    return calibration.noise_multiplier_for(
        target_epsilon=target,
        sample_rate=run.sample_rate or 1.0,
        steps=run.steps or 1,
        delta=run.delta,
        shuffled_epochs=run.epochs if run.sampling == "shuffle" else None,
    )
