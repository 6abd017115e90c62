"""What a figure of trials cannot say, in sentences that stand beneath it."""

from collections.abc import Iterator

import pandas as pd

from dpbench import strings
from dpbench.analysis import arm_means, trial_rows

FEW_ARMS = 4  # fewer arms show no frontier
OTHER_NEIGHBOURS = (
    "Epsilons of Poisson samples are for neighbours that differ by adding or removing one example, "
    "those of shuffled batches for one example's gradient being replaced by zero: the two do not "
    "compare, and each has answers of its own."
)


def of_search(trials: pd.DataFrame) -> Iterator[str]:
    """What epsilon does not cover."""
    private = trial_rows.private(trial_rows.final(trials))
    if private.empty:
        return
    yield (
        "Every epsilon is that of one run with that setting. Trying settings on private data and "
        "keeping the best costs more, as said with each answer."
    )
    yield (
        "Seeds are fixed, so that runs can be compared: that is for benchmarking, and not the "
        "secure noise that a release needs."
    )
    shuffled = (private["sampling"] == "shuffle").any()
    if shuffled:
        yield (
            "Shuffled batches stand at the epsilon that holds for them. The smaller one that is "
            "often quoted, as if they were Poisson samples, does not hold (Chua et al. 2024)."
        )
    yield from of_neighbours(private)
    if (private["accountant"] == "rdp").any():
        yield "Where PLD gave no number, or a larger one, epsilon is by RDP: both are bounds."


def of_neighbours(trials: pd.DataFrame) -> Iterator[str]:
    """What of a figure's axis does not compare."""
    if len(trial_rows.samplings(trial_rows.ok(trials))) > 1:
        yield f"{OTHER_NEIGHBOURS} They share this axis without being ranked together."


def of_zero(trials: pd.DataFrame) -> Iterator[str]:
    """What a log axis of epsilon cannot show."""
    arms = arm_means.over_seeds(trial_rows.private(trial_rows.final(trials)))
    if none := int((arms["epsilon"] == 0).sum()):
        yield f"{strings.counted(none, 'arm')} at epsilon 0 cannot stand on a log axis."


def of_gains(points: pd.DataFrame) -> Iterator[str]:
    """What a loss below zero means.

    Args:
        points: Numbers of the figure of accuracy lost.
    """
    if (points["points_lost"] < 0).any():
        yield (
            "A part below zero is no gain from privacy: it is not told apart from zero, or the "
            "setting that it is counted from is the weaker one (a non-private rate too small or "
            "too few steps, against which clipping helps)."
        )


def of_seeds(trials: pd.DataFrame) -> Iterator[str]:
    """How much of a difference may be chance."""
    arms = arm_means.over_seeds(trial_rows.final(trials))
    lost = trial_rows.failures(trials)[trial_rows.ARM].drop_duplicates()
    if fewer := len(arms.merge(lost)):
        yield (
            f"Of {strings.counted(fewer, 'arm')} some seeds have failed: what is drawn and "
            "answered is of the seeds that have not, and may flatter."
        )
    alone = int((arms["seeds"] < 2).sum())
    if not alone:
        return
    which = "Every arm has" if alone == len(arms) else f"{alone} of {len(arms)} arms have"
    yield (
        f"{which} one seed: without an interval, a difference of a point may be chance "
        "(--seeds 0 1 2 3 4 gives each an interval)."
    )


def of_arms(trials: pd.DataFrame) -> Iterator[str]:
    """How much of the plane was looked at."""
    arms = arm_means.over_seeds(trial_rows.private(trial_rows.final(trials)))
    if 0 < len(arms) < FEW_ARMS:
        yield f"Only {strings.counted(len(arms), 'private arm')}: a better may be near."


def of_levels(trials: pd.DataFrame, drawn: pd.DataFrame) -> Iterator[str]:
    """How many noise multipliers are drawn where there are more than can be read.

    Args:
        trials: Rows of `comparability.comparable`.
        drawn: What the figure draws.
    """
    noises = ["batch_size", "noise_multiplier"]
    every = trial_rows.private(trial_rows.ok(trials))[[*noises, "epsilon"]]
    every = every[every["epsilon"].between(0, float("inf"), inclusive="neither")]
    every = every.drop_duplicates(noises)
    count = len(every.merge(drawn[noises].drop_duplicates()))
    if count < len(every):
        yield f"{count} noise multipliers of {len(every):,}, over all batch sizes, are drawn."
