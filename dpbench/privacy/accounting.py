"""A trial's mechanism -> the epsilon that it spends at delta.

A mechanism is an inert `DpEvent` of Google's dp_accounting; `accountants` interpret it.
DP-SGD with Poisson batches is the Poisson-subsampled Gaussian mechanism, composed over steps:
every example joins a batch independently with probability sample_rate, and neighbours differ by
adding or removing one example. With shuffled batches it is the Gaussian mechanism, composed over
epochs, and neighbours differ by one example whose gradient is replaced by zero.

No torch. `prv` holds Opacus' own accountant.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

# dp_accounting is imported where it computes: that takes 0.8 s, and most reports need it not
from dpbench.privacy import accountants
from dpbench.trial import Trial

if TYPE_CHECKING:
    import pandas as pd
    from dp_accounting import DpEvent

VERSION = version("dp-accounting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What some steps have spent.

    Attributes:
        epsilon: The smallest that a bound here gives, by `accountant`; at least 0.
        accountant: `pld` or `rdp`, whichever is smaller; `gaussian` for shuffled batches.
        epsilon_pld: By privacy loss distributions (Koskela et al. 2020; Doroshenko et al. 2022,
            whose discretisation makes it an upper bound). None where delta is too small for it.
        epsilon_rdp: By Renyi differential privacy (Mironov 2017; Mironov et al. 2019).
        epsilon_gdp: By Gaussian differential privacy (Bu et al. 2020), a central limit theorem:
            no bound, it can be too low. None where it is not finite.
        epsilon_if_poisson: For shuffled batches, what Poisson batches would have spent.
        note: Why an accountant gave no number.
    """

    epsilon: float
    accountant: str
    epsilon_pld: float | None = None
    epsilon_rdp: float | None = None
    epsilon_gdp: float | None = None
    epsilon_if_poisson: float | None = None
    note: str | None = None


def poisson_event(*, noise_multiplier: float, sample_rate: float, steps: int) -> "DpEvent":
    """DP-SGD on Poisson batches.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        sample_rate: In (0, 1].
        steps: At least 1.
    """
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

    step = PoissonSampledDpEvent(float(sample_rate), GaussianDpEvent(float(noise_multiplier)))
    return SelfComposedDpEvent(step, int(steps))


def shuffled_event(*, noise_multiplier: float, epochs: int) -> "DpEvent":
    """DP-SGD on shuffled batches, where an example joins one batch an epoch.

    Given the permutations, which do not depend on the examples, an example's gradient is in one
    noisy sum an epoch: so many adaptively composed Gaussian mechanisms. No amplification by the
    shuffle is claimed: none as strong as that of Poisson sampling holds (Chua et al. 2024, "How
    Private are DP-SGD Implementations?" and "Scalable DP-SGD: Shuffling vs. Poisson Subsampling").
    """
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

    return SelfComposedDpEvent(GaussianDpEvent(float(noise_multiplier)), int(epochs))


def account(event: "DpEvent", delta: float) -> Spent:
    """The epsilon of the event at delta.

    Args:
        event: As `poisson_event` or `shuffled_event` makes it.
        delta: In (0, 1).
    """
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

    assert isinstance(event, SelfComposedDpEvent)
    if isinstance(event.event, GaussianDpEvent):
        return _account_gaussian(event.event.noise_multiplier, event.count, delta)
    return _account_poisson(
        event.event.event.noise_multiplier, event.event.sampling_probability, event.count, delta
    )


def spent(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> Spent:
    """The epsilon of `steps` steps on Poisson batches; arguments as `poisson_event`'s."""
    event = poisson_event(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)
    return account(event, delta)


def spent_by(trial: Trial, *, sample_rate: float, steps: int, epochs: int) -> Spent:
    """What the private trial has spent after so many steps, by the bound for its sampling.

    Args:
        trial: Private; names the sampling, the noise and delta.
        sample_rate: Probability with which an example joins a Poisson batch.
        steps: Taken so far.
        epochs: Whole ones that the steps make up.
    """
    assert trial.noise_multiplier is not None
    assert trial.delta is not None
    return spent_sampling(
        sampling=trial.sampling,
        noise_multiplier=trial.noise_multiplier,
        sample_rate=sample_rate,
        steps=steps,
        epochs=epochs,
        delta=trial.delta,
    )


def spent_sampling(
    *,
    sampling: str,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    epochs: int,
    delta: float,
) -> Spent:
    """What `steps` steps on Poisson batches, or `epochs` epochs of shuffled ones, spend.

    Args:
        sampling: As `Trial.sampling`.
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        sample_rate: Probability with which an example joins a Poisson batch.
        steps: Taken so far.
        epochs: Whole ones that the steps make up.
        delta: In (0, 1).
    """
    poisson = spent(
        noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta
    )
    if sampling == "poisson":
        return poisson
    event = shuffled_event(noise_multiplier=noise_multiplier, epochs=epochs)
    return replace(account(event, delta), epsilon_if_poisson=poisson.epsilon)


# Of a store's row: the arguments of `spent_sampling`
_MECHANISM = ("sampling", "noise_multiplier", "sample_rate", "steps", "epoch", "delta")


def columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The epsilon columns of a store's row.

    None of them where the row is of no private step.

    Args:
        row: With the columns of `_MECHANISM` and `epsilon_note`, as a trial's row has them. A note
            of `prv` is kept.
    """
    values = [row[name] for name in _MECHANISM]
    if any(value is None or value != value for value in values):  # noqa: PLR0124  # NaN
        return {}
    sampling, noise, sample_rate, steps, epoch, delta = values
    at = spent_sampling(
        sampling=sampling,
        noise_multiplier=float(noise),
        sample_rate=float(sample_rate),
        steps=int(steps),
        epochs=int(epoch),
        delta=float(delta),
    )
    of_prv = str(row.get("epsilon_note") or "").partition("pld:")[0].strip("; ")
    return {
        "epsilon": at.epsilon,
        "accountant": at.accountant,
        "epsilon_pld": at.epsilon_pld,
        "epsilon_rdp": at.epsilon_rdp,
        "epsilon_gdp": at.epsilon_gdp,
        "epsilon_if_poisson": at.epsilon_if_poisson,
        "epsilon_note": "; ".join(filter(None, (of_prv, at.note))) or None,
        "dp_accounting_version": VERSION,
    }


def by_one_accountant(trials: "pd.DataFrame") -> "pd.DataFrame":
    """The rows, with today's epsilons where an older version's accountant gave them.

    They follow from the noise, the sample rate and the steps that the rows record. `epsilon_prv`
    stays what was recorded.

    Args:
        trials: Rows of `store.read_trials`.
    """
    old = trials["epsilon"].notna() & trials["dp_accounting_version"].isna()
    old &= trials[list(_MECHANISM)].notna().all(axis=1)
    if not old.any():
        return trials
    trials = trials.copy()
    for values, rows in trials[old].groupby(list(_MECHANISM), sort=False):
        found = columns(dict(zip(_MECHANISM, values, strict=True)))
        del found["epsilon_note"]  # what is noted of a row was noted when it was written
        for name, value in found.items():
            trials.loc[rows.index, name] = value
    return trials


def rdp_bound(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """At least `spent(...).epsilon`, in milliseconds: Renyi divergences at a few orders."""
    one = accountants.rdp_of_a_step(noise_multiplier, sample_rate, accountants.FEW_RDP_ORDERS)
    return accountants.rdp_epsilon(one * steps, delta, accountants.FEW_RDP_ORDERS)


def estimate(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """About `spent(...).epsilon`, at most a hundredth above it, in a tenth of its time."""
    asked = (noise_multiplier, sample_rate, steps, delta)
    bound = rdp_bound(
        noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta
    )
    by_pld, _ = accountants.pld_epsilon(*asked, bound, widen=8 if bound < 100 else 1)
    return bound if by_pld is None else min(bound, by_pld)


@cache
def _account_poisson(noise: float, sample_rate: float, steps: int, delta: float) -> Spent:
    if noise == 0:
        no_bound = math.inf
        return Spent(
            epsilon=no_bound,
            accountant="pld",
            epsilon_pld=no_bound,
            epsilon_rdp=no_bound,
            epsilon_gdp=no_bound,
        )
    by_rdp = accountants.rdp_epsilon(accountants.rdp_of_a_step(noise, sample_rate) * steps, delta)
    by_pld, note = accountants.pld_epsilon(noise, sample_rate, steps, delta, by_rdp)
    pld_is_smaller = by_pld is not None and by_pld <= by_rdp
    return Spent(
        epsilon=by_pld if by_pld is not None and pld_is_smaller else by_rdp,
        accountant="pld" if pld_is_smaller else "rdp",
        epsilon_pld=by_pld,
        epsilon_rdp=by_rdp,
        epsilon_gdp=accountants.gdp_epsilon(noise, sample_rate, steps, delta),
        note=note,
    )


@cache
def _account_gaussian(noise: float, count: int, delta: float) -> Spent:
    """So many Gaussian mechanisms are one of noise / sqrt(count).

    Dong, Roth and Su 2022, "Gaussian Differential Privacy", corollary 3.3. Its epsilon is exact
    (Balle and Wang 2018, theorem 8).
    """
    epsilon = (
        accountants.gaussian_epsilon(math.sqrt(count) / noise, delta) if noise > 0 else math.inf
    )
    return Spent(epsilon=epsilon, accountant="gaussian")
