"""The epsilon of a DP-SGD run that need not be trained here. No torch."""

from dataclasses import dataclass, replace

from dpbench.errors import BadInput
from dpbench.privacy import guarantee, run_count, search_guarantee
from dpbench.privacy.run_count import RunCount
from dpbench.trial import LEAST_NOISE, MOST_NOISE, SAMPLINGS, Sampling


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentEpsilon:
    """What a noise multiplier spends. `float` of it is epsilon: of the search, if there is one.

    Attributes:
        noise_multiplier: Given, or solved for the target.
        target_epsilon: What it was solved for, of one run; None where it was not.
        epsilon: Of one run: the smallest bound.
        accountant: Which gave it: `pld`, `rdp`, or `gaussian` for shuffled batches.
        epsilon_pld: By privacy loss distributions; None where they gave none.
        epsilon_rdp: By Renyi differential privacy; None for shuffled batches.
        note: Why an accountant gave no number.
        statement: A paragraph that can be put in a paper: of the search, where there is one.
        search: The distribution of the number of such runs, of which only the best is published;
            None of a run that is no part of a search.
        epsilon_of_search: Of publishing the best (see `selection`); None without a search.
        total_epsilon: That the noise was solved for, of the whole search; None where it was not.
    """

    noise_multiplier: float
    target_epsilon: float | None
    epsilon: float
    accountant: str
    epsilon_pld: float | None
    epsilon_rdp: float | None
    note: str | None
    statement: str
    search: str | None = None
    epsilon_of_search: float | None = None
    total_epsilon: float | None = None

    def __float__(self) -> float:
        return self.epsilon if self.epsilon_of_search is None else self.epsilon_of_search


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
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise BadInput(f"Expected {name}={size} >= 1.")
    if not 0 < delta < 1:
        raise BadInput(f"Expected delta={delta} > 0 and < 1.")
    if sample_rate is not None and not 0 < sample_rate <= 1:
        raise BadInput(f"Expected sample_rate={sample_rate} > 0 and <= 1.")
    if sampling not in SAMPLINGS:
        raise BadInput(f"Expected sampling={sampling!r} to be one of {', '.join(SAMPLINGS)}.")
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
    spent = _spent(run, noise_multiplier, target_epsilon)
    return spent if search is None else _best_of(run, spent, total_epsilon, search)


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
        schedule = _schedule(run)
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


def _schedule(run: PrivateRun) -> tuple[float, int]:
    """The sample rate and steps of a run; of shuffled batches, a step an epoch with every example.

    In both, an example takes part in so many Gaussian mechanisms.
    """
    if run.sampling == "shuffle":
        return 1.0, run.epochs or 1
    return run.sample_rate or 1.0, run.steps or 1


def _best_of(
    run: PrivateRun, spent: SpentEpsilon, total_epsilon: float | None, count: RunCount
) -> SpentEpsilon:
    """What the best of a random number of such runs spends."""
    epsilon = float("inf")
    if spent.noise_multiplier > 0:
        from dpbench.privacy import selection

        rate, steps = _schedule(run)
        each = selection.Run(noise_multiplier=spent.noise_multiplier, sample_rate=rate, steps=steps)
        epsilon = selection.epsilon([each], count, delta=run.delta)
    return replace(
        spent,
        search=str(count),
        epsilon_of_search=epsilon,
        total_epsilon=total_epsilon,
        statement=search_guarantee.statement(
            search_guarantee.SearchGuarantee(
                count=count,
                sampling=run.sampling,
                examples=run.examples,
                schedules=guarantee.batches(_guarantee(run, spent)),
                noise_multipliers=[spent.noise_multiplier],
                epsilon=epsilon,
                epsilon_of_run=spent.epsilon,
                delta=run.delta,
            )
        ),
    )


def _guarantee(run: PrivateRun, spent: SpentEpsilon) -> guarantee.Guarantee:
    return guarantee.Guarantee(
        sampling=run.sampling,
        noise_multiplier=spent.noise_multiplier,
        examples=run.examples,
        batch_size=run.batch_size,
        sample_rate=run.sample_rate,
        steps=run.steps,
        epochs=run.epochs,
        epsilon=spent.epsilon,
        delta=run.delta,
        accountant=spent.accountant,
    )


def _spent(run: PrivateRun, noise: float, target: float | None) -> SpentEpsilon:
    from dpbench.privacy import accounting

    if noise != 0 and not LEAST_NOISE <= noise <= MOST_NOISE:
        raise BadInput(
            f"Expected noise_multiplier={noise} to be 0 or from {LEAST_NOISE:g} to "
            f"{MOST_NOISE:,.0f}."
        )
    if run.sampling == "shuffle":
        assert run.epochs is not None
        event = accounting.shuffled_event(noise_multiplier=noise, epochs=run.epochs)
    else:
        assert run.sample_rate is not None
        assert run.steps is not None
        event = accounting.poisson_event(
            noise_multiplier=noise, sample_rate=run.sample_rate, steps=run.steps
        )
    spent = accounting.account(event, run.delta)
    found = SpentEpsilon(
        noise_multiplier=noise,
        target_epsilon=target,
        epsilon=spent.epsilon,
        accountant=spent.accountant,
        epsilon_pld=spent.epsilon_pld,
        epsilon_rdp=spent.epsilon_rdp,
        note=spent.note,
        statement="",
    )
    return replace(found, statement=guarantee.statement(_guarantee(run, found)))
