"""The guarantee of a search of which only the best is published, as a paragraph for a paper."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpbench.privacy import guarantee
from dpbench.privacy.run_count import RunCount

_THEOREMS = {"poisson": "theorem 6", "geometric": "theorem 2", "logarithmic": "theorem 2"}
NOT_COVERED = (
    "The examples that the models are scored on are not covered: they must be public, or have a "
    "guarantee of their own."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchGuarantee:
    """A search over runs of DP-SGD, and the epsilon that it spends.

    Attributes:
        count: The distribution of the number of runs.
        sampling: How batches are drawn.
        examples: N, that each run trains on; None where it is not known.
        schedules: What a run may be, in words, such as `batches of expected size 256 (10 epochs)`.
        noise_multipliers: That a run may have.
        epsilon: Of the whole search.
        epsilon_of_run: The largest of a run.
        delta: That goes with both.
        scores: Sentences on the examples that runs are scored on.
        others: A sentence on other searches on the same examples; None where there are none.
        preprocessing: As of `guarantee.Guarantee`.
    """

    count: RunCount
    sampling: str
    examples: int | None
    schedules: str
    noise_multipliers: Sequence[float]
    epsilon: float
    epsilon_of_run: float
    delta: float
    scores: str = NOT_COVERED
    others: str | None = None
    preprocessing: str | None = None


def statement(of: SearchGuarantee) -> str:
    """One paragraph: the mechanism, epsilon, delta, what is published and what is not covered."""
    data = "" if of.examples is None else f" on N = {of.examples:,} examples"
    least, most = (f"{edge(of.noise_multipliers):g}" for edge in (min, max))
    noise = least if least == most else f"from {least} to {most}"
    sentences = [
        f"The model is the best of a random number of models, each trained by DP-SGD{data} with "
        f"{of.schedules} and noise multiplier {noise}.",
        f"The number of models was drawn once from the {of.count.in_words}, and the settings "
        "of each at random and with replacement, from a space that was fixed before.",
        _claim(of),
        "The unit of privacy is one example: neighbouring datasets differ "
        f"{guarantee.NEIGHBOURS[of.sampling]}{'' if of.examples is None else '; N is public'}.",
        guarantee.delta_against(of.delta, of.examples),
        of.scores,
        *filter(None, [of.preprocessing, of.others]),
        "This holds where neither the number of models nor any other of them, nor its score, is "
        "published.",
    ]
    return " ".join(sentences)


def _claim(of: SearchGuarantee) -> str:
    if of.epsilon == float("inf"):
        return "Without noise it is not differentially private: epsilon is infinite."
    return (
        "The whole search is (epsilon, delta)-differentially private with epsilon = "
        f"{guarantee.rounded_up(of.epsilon)} and delta = {guarantee.short(of.delta)}, by Renyi "
        f"differential privacy (Papernot and Steinke 2022, {_THEOREMS[of.count.distribution]}); "
        f"one training has at most epsilon = {guarantee.rounded_up(of.epsilon_of_run)}."
    )
