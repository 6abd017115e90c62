"""Frames -> what they cannot say, in sentences that stand beside the answer and the figures."""

from collections.abc import Collection, Iterator

import pandas as pd

from dpbench import analysis, catalogue
from dpbench.trial import NON_PRIVATE

FEW_ARMS, FEW_PAIRS = 4, 6  # fewer arms show no frontier; fewer pairs have no 95 % interval


def of_search(trials: pd.DataFrame) -> Iterator[str]:
    """What epsilon does not cover."""
    private = analysis.private(analysis.final(trials))
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
    if (private["accountant"] == "rdp").any():
        yield "Where the PRV accountant gave no number, epsilon is by RDP, which is larger."


def of_seeds(trials: pd.DataFrame) -> Iterator[str]:
    """How much of a difference may be chance."""
    arms = analysis.over_seeds(analysis.final(trials))
    alone = int((arms["seeds"] < 2).sum())
    if not len(arms) or not alone:
        return
    which = "Every arm has" if alone == len(arms) else f"{alone} of {len(arms)} arms have"
    yield (
        f"{which} one seed: without an interval, a difference of a point may be chance "
        "(--seeds 0 1 2 3 4 gives each an interval)."
    )


def of_arms(trials: pd.DataFrame) -> Iterator[str]:
    """How much of the plane was looked at."""
    arms = analysis.over_seeds(analysis.private(analysis.final(trials)))
    if 0 < len(arms) < FEW_ARMS:
        yield f"Only {len(arms)} private arm{'s' if len(arms) > 1 else ''}: a better may be near."
    others = [name for name in analysis.ARM if name not in ("learning_rate", "momentum")]
    tried = arms.groupby(others, dropna=False).size() if len(arms) else pd.Series(dtype=int)
    if (tried > 1).any():
        yield "Where several learning rates were tried, the best of them is drawn."


def of_dataset(trials: pd.DataFrame) -> Iterator[str]:
    """What the dataset stands for."""
    if catalogue.FALLBACK in set(trials["dataset"]):
        size = catalogue.entry(catalogue.FALLBACK).train_examples
        yield (
            f"These are the {size:,} embedded digits, which stand in where MNIST cannot be had: "
            "the curves have the shape, but not the height, of MNIST's."
        )


def of_progress(trials: pd.DataFrame, asked: Collection[str]) -> Iterator[str]:
    """What is missing.

    Args:
        trials: Rows of `store.read_trials`.
        asked: Ids of the trials that the store's sweeps asked for; empty where that is not known.
    """
    finished = set(analysis.final(trials)["trial_id"])
    failed = set(analysis.failures(trials)["trial_id"]) - finished
    waiting = set(asked) - finished - failed
    if waiting:
        yield (
            f"{len(waiting)} of the {len(set(asked))} trials asked for are not there yet: the "
            "sweep is running, or was stopped."
        )
    if failed:
        yield f"{len(failed)} trials failed and are in no figure; the table of failures says why."


def of_timings(timings: pd.DataFrame) -> Iterator[str]:
    """How far the timings can be trusted."""
    if timings.empty:
        return
    summary = analysis.overhead(timings)
    disturbed = int((~timings["alone"].astype(bool)).sum())
    if disturbed:
        yield (
            f"{disturbed} of {len(timings)} pairs were timed beside other work on the machine: "
            "their ratios hold better than their times."
        )
    if (summary["pairs"] < FEW_PAIRS).any():
        yield f"Fewer than {FEW_PAIRS} pairs: the bar is their whole range."
    if NON_PRIVATE not in set(summary["engine"]):
        yield "The non-private step was not timed against itself, so the noise is not known."
    yield (
        "The step alone is timed, on one model; the tutorial's loops, where they are there, with "
        "their data loader."
    )
