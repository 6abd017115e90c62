"""What timings cannot say, in sentences that stand beside them."""

from collections.abc import Iterator

import pandas as pd

from dpbench.analysis import comparability, step_overhead
from dpbench.trial import NON_PRIVATE

FEW_PAIRS = 6  # fewer pairs have no 95 % interval


def of_other_timings(timings: pd.DataFrame, dataset: str) -> Iterator[str]:
    """What was timed on other datasets than that of the answers."""
    others = sorted(set(timings["dataset"]) - {dataset})
    if others:
        yield f"Timings on {', '.join(others)} are in no figure or answer."


def of_other_models(timings: pd.DataFrame) -> Iterator[str]:
    """The models whose timings are in no figure, since a figure shows those of one model."""
    shown = set(comparability.of_most(timings, "model")["model"])
    others = sorted(set(timings["model"]) - shown)
    if others:
        yield (
            f"Figures of step timings are of {', '.join(sorted(shown))}; those of "
            f"{', '.join(others)} are in no figure."
        )


def of_other_conditions(timings: pd.DataFrame, timed: pd.DataFrame) -> Iterator[str]:
    """What was timed on the same dataset, but not in the way of `step_overhead.timed_alike`.

    Args:
        timings: Of the dataset of the answers.
        timed: Those that figures and answers are of.
    """
    others = timings.drop(index=timed.index)
    if others.empty:
        return
    ways = others[["device_name", "threads", "physical_batch_size", "torch_version"]]
    names = sorted(
        f"{way.device_name}, {way.threads} thread(s), physical batch size "
        f"{way.physical_batch_size}, torch {way.torch_version}"
        for way in ways.drop_duplicates().itertuples()
    )
    yield (
        f"{len(others)} timed pairs were measured otherwise and are in no figure or answer "
        f"({'; '.join(names)})."
    )


def of_one_process(summary: pd.DataFrame) -> Iterator[str]:
    """Which intervals are too narrow, for they do not hold what differs between processes.

    Args:
        summary: Rows of `step_overhead.overhead`.
    """
    count = int((summary["processes"] == 1).sum())
    if count:
        yield (
            f"{count} of {len(summary)} overheads were timed in one process: their intervals are "
            "over its pairs, and too narrow, for processes differ by more. Time them again."
        )


def of_timings(timings: pd.DataFrame) -> Iterator[str]:
    """How far the timings can be trusted."""
    if timings.empty:
        return
    summary = step_overhead.overhead(timings)
    disturbed = int((~timings["alone"].astype(bool)).sum())
    if disturbed:
        yield (
            f"{disturbed} of {len(timings)} pairs were timed beside other work on the machine: "
            "their ratios hold better than their times."
        )
    yield from of_one_process(summary)
    several = summary["processes"] > 1
    if (summary["pairs"].where(~several) < FEW_PAIRS).any():
        yield f"Fewer than {FEW_PAIRS} pairs: the bar is their whole range."
    if (summary["processes"].where(several) < FEW_PAIRS).any():
        yield f"Fewer than {FEW_PAIRS} processes: the bar is the whole range of their medians."
    if NON_PRIVATE not in set(summary["engine"]):
        yield "The non-private step was not timed against itself, so the noise is not known."
    yield (
        "The step alone is timed, on one model; the tutorial's loops, where they are there, with "
        "their data loader."
    )
