"""Frames -> what they cannot say, in sentences that stand beside the answer and the figures."""

from collections.abc import Collection, Iterator

import pandas as pd

from dpbench import analysis, cli, datasets
from dpbench.analysis.recommendation import Answer
from dpbench.privacy import guarantee
from dpbench.trial import NON_PRIVATE

FEW_ARMS, FEW_PAIRS = 4, 6  # fewer arms show no frontier; fewer pairs have no 95 % interval
# What bench/selection_bias.py finds, as results/selection_bias has it
BIAS = (
    "in a simulation with the spreads of results/mnist (three seeds, 44 to 60 settings) the "
    "accuracy reported is 0.14 to 0.18 points too good and its 95 % interval holds the truth in 92 "
    "to 93 % of cases; where all settings are alike, 0.29 to 0.31 points and 77 to 88 %"
)
OTHER_NEIGHBOURS = (
    "Epsilons of Poisson samples are for neighbours that differ by adding or removing one example, "
    "those of shuffled batches for one example's gradient being replaced by zero: the two do not "
    "compare, and each has answers of its own."
)


def of_choice(answers: Collection[Answer]) -> Iterator[str]:
    """What stands beside the answers: on which seeds they rest, and what a noise goes with."""
    given = [answer.best for answer in answers if answer.best is not None]
    if any(best.arms > 1 and not best.confirmed_on for best in given):
        yield (
            "A setting that is reported on the seeds by which it was chosen is flattered, also "
            f"where a validation set chooses: {BIAS}. --confirm N runs the best settings again on "
            "N fresh seeds and reports those."
        )
    if fresh := sorted({seed for best in given for seed in best.confirmed_on}):
        yield (
            f"Confirmed accuracies and losses are those of {cli.named('seed', fresh)}, which "
            "had no part in the choice."
        )
    known = (best.setting.train_examples for best in given)
    sizes = sorted({size for size in known if size is not None})
    if sizes:
        counted = " or ".join(f"{size:,}" for size in sizes)
        yield (
            f"A noise multiplier spends its epsilon with {counted} training examples, its batch "
            "size and its number of steps alone: with others, solve for it again "
            "(--target-epsilon)."
        )
    if len({answer.sampling for answer in answers}) > 1:
        yield OTHER_NEIGHBOURS
    if any(best.verdict == "beats" for best in given):
        yield (
            "Where a private setting beats the best non-private one, the baseline is weak: what "
            "privacy costs is not known there."
        )


def of_delta(trials: pd.DataFrame) -> Iterator[str]:
    """Where delta is not below one over the number of training examples."""
    private = analysis.private(analysis.ok(trials)).dropna(subset=["sample_rate"])
    sizes = (private["batch_size"] / private["sample_rate"]).round()
    for delta, examples in sorted(set(zip(private["delta"], sizes, strict=True))):
        if warning := guarantee.delta_warning(float(delta), int(examples)):
            yield warning


def of_noise(trials: pd.DataFrame) -> Iterator[str]:
    """What the trials share, and what their noise is fit for."""
    if (trials["noise_derivation"] == "trial").any():
        yield (
            "Trials of one seed share their initial weights and batches, and no noise. Whoever "
            "knows a trial can draw its noise again: these models are for benchmarking and not for "
            "release (--fresh-noise, and README)."
        )
    if (trials["noise_derivation"] == "system").any():
        yield (
            "Fresh noise: the sampler and the noise were seeded by the system, and the rows record "
            "the seed (column system_seed). With it anybody can subtract the noise: keep it from "
            "whoever gets a model. A release needs more: a cryptographically secure generator and "
            "noise that is safe in floating point (Mironov 2012; Opacus: secure_mode), and an "
            "epsilon that pays for the choice of settings."
        )
    noisy = trials[(trials["noise_multiplier"] > 0) & (trials["status"] == "ok")]
    shared = noisy[noisy["noise_derivation"].isna()]["trial_id"].nunique()
    if shared:
        yield (
            f"{cli.counted(shared, 'trial')} of an older dpbench drew the noise from the seed "
            "alone, so that arms of one seed share it: their accuracies hold, but no two of their "
            "models could be released together."
        )


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
    yield from of_neighbours(private)
    if (private["accountant"] == "rdp").any():
        yield "Where the PRV accountant gave no number, epsilon is by RDP, which is larger."


def of_neighbours(trials: pd.DataFrame) -> Iterator[str]:
    """What of a figure's axis does not compare."""
    if len(analysis.samplings(analysis.ok(trials))) > 1:
        yield f"{OTHER_NEIGHBOURS} They share this axis without being ranked together."


def of_zero(trials: pd.DataFrame) -> Iterator[str]:
    """What a log axis of epsilon cannot show."""
    arms = analysis.over_seeds(analysis.private(analysis.final(trials)))
    if none := int((arms["epsilon"] == 0).sum()):
        yield f"{cli.counted(none, 'arm')} at epsilon 0 cannot stand on a log axis."


def of_gains(points: pd.DataFrame) -> tuple[str, ...]:
    """What a loss below zero means.

    Args:
        points: Numbers of the figure of accuracy lost.
    """
    if not (points["points_lost"] < 0).any():
        return ()
    return (
        "A part below zero is no gain from privacy: it is not told apart from zero, or the setting "
        "that it is counted from is the weaker one (a non-private rate too small or too few steps, "
        "against which clipping helps).",
    )


def of_seeds(trials: pd.DataFrame) -> Iterator[str]:
    """How much of a difference may be chance."""
    arms = analysis.over_seeds(analysis.final(trials))
    lost = analysis.failures(trials)[analysis.ARM].drop_duplicates()
    if fewer := len(arms.merge(lost)):
        yield (
            f"Of {cli.counted(fewer, 'arm')} some seeds have failed: what is drawn and "
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
    arms = analysis.over_seeds(analysis.private(analysis.final(trials)))
    if 0 < len(arms) < FEW_ARMS:
        yield f"Only {cli.counted(len(arms), 'private arm')}: a better may be near."


def of_dataset(trials: pd.DataFrame) -> Iterator[str]:
    """What the dataset stands for."""
    stand_ins = {name for name in datasets.names() if datasets.spec(name).stands_in_for}
    for name in sorted(stand_ins & set(trials["dataset"])):
        spec = datasets.spec(name)
        original = datasets.spec(str(spec.stands_in_for)).title
        held_out = trials["validation_examples"].fillna(0).max()
        kept = f", {held_out:,.0f} more held out" if held_out else ""
        yield (
            f"These are the embedded {spec.title} ({spec.train_examples - held_out:,.0f} to train "
            f"on{kept}), which stand in where {original} cannot be had: the curves have the shape, "
            f"but not the height, of {original}'s."
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
            f"{len(waiting):,} of {cli.counted(len(set(asked)), 'trial')} asked for are not "
            "there yet: the sweep is running, or was stopped."
        )
    if failed:
        failures = cli.counted(len(failed), "trial")
        yield f"{failures} failed: the table of failures says why."


def of_left_out(trials: pd.DataFrame, shown: pd.DataFrame) -> Iterator[str]:
    """What trials are in the table of arms alone.

    Args:
        trials: Rows of `store.read_trials`.
        shown: Of them, the rows of `analysis.comparable`.
    """
    if shown.empty:
        return
    alike = analysis.alike(trials)
    other_noise = analysis.of_one_guarantee(trials)["trial_id"].nunique()
    other_noise -= alike["trial_id"].nunique()
    on = trials[trials["dataset"].isin(alike["dataset"])]
    held_out, kept = (set(rows["validation_examples"].fillna(0)) for rows in (on, alike))
    deltas = set(on["delta"].dropna()) - set(alike["delta"])
    setting = [name for name in analysis.ARM if name != "engine"]
    every, drawn = (analysis.ok(rows)[analysis.ARM].drop_duplicates() for rows in (alike, shown))
    same = every.merge(drawn[setting].drop_duplicates())
    again = same.merge(drawn[analysis.ARM], how="left", indicator=True)
    engines = sorted(again[again["_merge"] == "left_only"]["engine"].unique())
    lone = len(every) - len(same)
    parts = [
        *(f"trials on {name}" for name in sorted(set(trials["dataset"]) - set(on["dataset"]))),
        *(f"trials with validation_examples {size:.0f}" for size in sorted(held_out - kept)),
        *(f"trials with delta {analysis.short(delta)}" for delta in sorted(deltas)),
        *([f"{cli.counted(lone, 'arm')} of one seed, as others have several"] if lone else []),
        *(f"settings by {name} that another engine has trained, too" for name in engines),
        *(
            [
                f"{cli.counted(other_noise, 'trial')} that draw their noise in another way "
                "than the arm's others (column noise_derivation)"
            ]
            if other_noise
            else []
        ),
    ]
    if parts:
        yield f"In the table of arms, and in no figure or answer: {'; '.join(parts)}."


def of_other_timings(timings: pd.DataFrame, dataset: str) -> Iterator[str]:
    """What was timed on other datasets than that of the answers."""
    others = sorted(set(timings["dataset"]) - {dataset})
    if others:
        yield f"Timings on {', '.join(others)} are in no figure or answer."


def of_other_conditions(timings: pd.DataFrame, timed: pd.DataFrame) -> Iterator[str]:
    """What was timed on the same dataset, and is left out: rows of `analysis.timed_alike` are not.

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
        summary: Rows of `analysis.overhead`.
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
    summary = analysis.overhead(timings)
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
