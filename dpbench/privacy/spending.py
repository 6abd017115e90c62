"""What a run of DP-SGD spends with a noise multiplier, alone or as one of a search. No torch."""

from dataclasses import dataclass, replace

from dpbench.errors import BadInput
from dpbench.privacy import guarantee, search_guarantee
from dpbench.privacy.dpsgd_run import PrivateRun
from dpbench.privacy.run_count import RunCount
from dpbench.trial import LEAST_NOISE, MOST_NOISE


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


def by_run(
    run: PrivateRun, noise_multiplier: float, *, target_epsilon: float | None = None
) -> SpentEpsilon:
    """What the run spends with the noise.

    Args:
        run: Without its noise.
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        target_epsilon: That the noise was solved for, of one run; None where it was not.

    Raises:
        BadInput: The noise is out of range.
    """
    from dpbench.privacy import accounting

    if noise_multiplier != 0 and not LEAST_NOISE <= noise_multiplier <= MOST_NOISE:
        raise BadInput(
            f"Expected noise_multiplier={noise_multiplier} to be 0 or from {LEAST_NOISE:g} to "
            f"{MOST_NOISE:,.0f}."
        )
    if run.sampling == "shuffle":
        assert run.epochs is not None
        event = accounting.shuffled_event(noise_multiplier=noise_multiplier, epochs=run.epochs)
    else:
        assert run.sample_rate is not None
        assert run.steps is not None
        event = accounting.poisson_event(
            noise_multiplier=noise_multiplier, sample_rate=run.sample_rate, steps=run.steps
        )
    spent = accounting.account(event, run.delta)
    found = SpentEpsilon(
        noise_multiplier=noise_multiplier,
        target_epsilon=target_epsilon,
        epsilon=spent.epsilon,
        accountant=spent.accountant,
        epsilon_pld=spent.epsilon_pld,
        epsilon_rdp=spent.epsilon_rdp,
        note=spent.note,
        statement="",
    )
    return replace(found, statement=guarantee.statement(_guarantee(run, found)))


def by_search(
    run: PrivateRun, spent: SpentEpsilon, count: RunCount, *, total_epsilon: float | None = None
) -> SpentEpsilon:
    """What the best of a random number of such runs spends.

    Args:
        run: Without its noise.
        spent: By one such run.
        count: The distribution of their number.
        total_epsilon: That the noise was solved for, of the whole search; None where it was not.
    """
    epsilon = float("inf")
    if spent.noise_multiplier > 0:
        from dpbench.privacy import selection

        rate, steps = run.schedule
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
