"""The guarantee of a private training run, as a paragraph for a paper. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

ACCOUNTANTS = {
    "pld": "PLD",
    "rdp": "RDP",
    "prv": "PRV",
    "gaussian": "the exact Gaussian mechanism",
}
NEIGHBOURS: Mapping[str, str] = {
    "poisson": "by adding or removing one example",
    "shuffle": "in one example, whose gradient is replaced by zero in one of them",
}
_WHY = "which allows a mechanism that publishes one example in N outright"
NOT_CHOSEN = "These settings are taken as given: choosing them on the same data is not included."


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """A run of DP-SGD and the epsilon that it spends.

    Attributes:
        sampling: How batches are drawn.
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        examples: N; None where only the sample rate is known.
        batch_size: Expected size of a batch; None where only the sample rate is known.
        sample_rate: Probability with which an example joins a Poisson batch; None for shuffled ones
            of unknown size.
        steps: Taken; None for shuffled batches of unknown size.
        epochs: Whole ones; None where only the steps are known.
        epsilon: That the run spends.
        delta: That goes with it.
        accountant: Which gave epsilon.
        max_grad_norm: L2 bound on an example's gradient; None where it is not known.
        choice: A sentence on how the settings were found.
        preprocessing: A sentence on constants that were computed from the training data; None where
            there are none.
    """

    sampling: str
    noise_multiplier: float
    examples: int | None
    batch_size: int | None
    sample_rate: float | None
    steps: int | None
    epochs: int | None
    epsilon: float
    delta: float
    accountant: str
    max_grad_norm: float | None = None
    choice: str = NOT_CHOSEN
    preprocessing: str | None = None


def statement(of: Guarantee) -> str:
    """One paragraph: mechanism, epsilon, delta, neighbours, unit, accountant and what it omits."""
    clip = "" if of.max_grad_norm is None else f", clipping norm {of.max_grad_norm:g}"
    data = "" if of.examples is None else f" on N = {of.examples:,} examples"
    sentences = [
        f"The model is trained by DP-SGD{data} with {batches(of)}, noise multiplier "
        f"{of.noise_multiplier:g}{clip}.",
        _claim(of),
        "The unit of privacy is one example: neighbouring datasets differ "
        f"{NEIGHBOURS[of.sampling]}{'' if of.examples is None else '; N is public'}.",
    ]
    sentences.append(delta_against(of.delta, of.examples))
    if of.sampling == "shuffle":
        sentences.append("No amplification by sampling is claimed.")
    return " ".join([*sentences, of.choice, *filter(None, [of.preprocessing])])


def chosen(settings: int) -> str:
    """`Guarantee.choice` of the best of so many private settings on the same data."""
    if settings < 2:
        return NOT_CHOSEN
    return (
        f"These settings were chosen among at least {settings:,} private ones that were trained on "
        "the same data: epsilon is that of one training and does not pay for the choice."
    )


def batches(of: Guarantee) -> str:
    """The batches of the run: how they are drawn, their size, sample rate, steps and epochs."""
    kind = "Poisson-sampled" if of.sampling == "poisson" else "shuffled"
    size = ""
    if of.batch_size is not None:
        size = f" of {'expected ' if of.sampling == 'poisson' else ''}size {of.batch_size:,}"
    facts = []
    if of.sampling == "poisson" and of.sample_rate is not None:
        facts.append(f"sample rate {of.sample_rate:.6g}")
    if of.steps is not None:
        facts.append(f"{of.steps:,} steps")
    if of.epochs is not None:
        facts.append(f"{of.epochs:,} epoch{'' if of.epochs == 1 else 's'}")
    return f"{kind} batches{size} ({', '.join(facts)})"


def _claim(of: Guarantee) -> str:
    if of.epsilon == float("inf"):
        return "Without noise it is not differentially private: epsilon is infinite."
    return (
        "It is (epsilon, delta)-differentially private with epsilon = "
        f"{rounded_up(of.epsilon)} and delta = {short(of.delta)}, accounted by "
        f"{ACCOUNTANTS[of.accountant]}."
    )


def delta_against(delta: float, examples: int | None) -> str:
    """Whether delta is below one over the number of examples, in a sentence."""
    if examples is None:
        return f"Delta is below 1/N only where N is below {1 / delta:,.10g}; N is not given."
    if delta < 1 / examples:
        return f"Delta is below 1/N = {1 / examples:.2g}."
    return f"Delta is not below 1/N = {1 / examples:.2g}, {_WHY}."


def delta_warning(delta: float, examples: int) -> str | None:
    """A sentence where delta is not below 1/N; None elsewhere.

    Args:
        delta: Of (epsilon, delta)-DP.
        examples: N.
    """
    if delta < 1 / examples:
        return None
    return (
        f"delta = {short(delta)} is not below 1/N = {1 / examples:.2g} (N = {examples:,}), {_WHY}. "
        "Choose a delta well below 1/N."
    )


def rounded_up(epsilon: float, digits: int = 4) -> str:
    """In so many digits, so that the stated epsilon is never below the true one."""
    if epsilon in (0, math.inf):
        return f"{epsilon:g}"
    unit = 10.0 ** (math.floor(math.log10(epsilon)) + 1 - digits)
    return f"{math.ceil(epsilon / unit - 1e-9) * unit:.{digits}g}"


def short(value: float) -> str:
    """The number in three digits: 1e-5, not 1e-05."""
    return f"{value:.3g}".replace("e-0", "e-")
