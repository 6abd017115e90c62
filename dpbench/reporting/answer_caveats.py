"""What the answers of a store cannot say, in sentences that stand beside them."""

from collections.abc import Collection, Iterator

import pandas as pd

from dpbench import datasets, strings
from dpbench.analysis import comparability, trial_rows
from dpbench.analysis.answers import Answer
from dpbench.privacy import guarantee
from dpbench.reporting import quantities
from dpbench.reporting.figure_caveats import OTHER_NEIGHBOURS

# What bench/selection_bias.py finds, as results/selection_bias has it
BIAS = (
    "in a simulation with the spreads of results/mnist-grid (three seeds, 44 to 60 settings) the "
    "accuracy reported is 0.11 to 0.14 points too good and its 95 % interval holds the truth in "
    "93 % of cases; where all settings are alike, 0.29 to 0.39 points and 75 to 81 %"
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
            f"Confirmed accuracies and losses are those of {strings.named('seed', fresh)}, which "
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
    private = trial_rows.private(trial_rows.ok(trials)).dropna(subset=["sample_rate"])
    sizes = (private["batch_size"] / private["sample_rate"]).round()
    for delta, examples in sorted(set(zip(private["delta"], sizes, strict=True))):
        if warning := guarantee.delta_warning(float(delta), int(examples)):
            yield warning


def of_noise(trials: pd.DataFrame) -> Iterator[str]:
    """What the trials share, and what their noise is fit for."""
    noisy = trials[(trials["noise_multiplier"] > 0) & (trials["status"] == "ok")]
    old = noisy[noisy["noise_derivation"].isna()]["trial_id"].nunique()
    if old:
        yield (
            f"{strings.counted(old, 'trial')} of an older dpbench drew the noise from the seed "
            "alone, so that arms of one seed share it: their accuracies hold, but two of their "
            "models together have no epsilon. All models of a fixed seed are for benchmarking and "
            "not for release."
        )
    if (trials["noise_derivation"] == "trial").any():
        yield (
            f"{'All other trials' if old else 'Trials'} of one seed share their initial weights "
            "and batches, and no noise. Whoever knows a trial can draw its noise again: these "
            "models are for benchmarking and not for release (--fresh-noise, and README)."
        )
    if (trials["noise_derivation"] == "system").any():
        yield (
            "Fresh noise: the sampler and the noise were seeded by the system, and the rows record "
            "the seed (column system_seed). With it anybody can subtract the noise: keep it from "
            "whoever gets a model. A release needs more: a cryptographically secure generator and "
            "noise that is safe in floating point (Mironov 2012; Opacus: secure_mode), and an "
            "epsilon that pays for the choice of settings."
        )


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


def of_progress(
    trials: pd.DataFrame, planned: Collection[str], dropped: Collection[str] = ()
) -> Iterator[str]:
    """What is missing.

    Args:
        trials: Rows of `store.read_trials`.
        planned: Ids of all trials of the store's sweeps; empty where unknown.
        dropped: Ids of those that were removed from the store since.
    """
    finished = set(trial_rows.final(trials)["trial_id"])
    failed = set(trial_rows.failures(trials)["trial_id"]) - finished
    waiting = set(planned) - finished - failed - set(dropped)
    if waiting:
        yield (
            f"{len(waiting):,} of {strings.counted(len(set(planned)), 'trial')} asked for are not "
            "there yet, or not any more: the same command runs what is missing."
        )
    if gone := set(dropped) - finished - failed:
        yield (
            f"{strings.counted(len(gone), 'trial')} asked for were removed (dpbench results "
            "drop): what choosing costs does not count them."
        )
    if failed:
        failures = strings.counted(len(failed), "trial")
        yield f"{failures} failed: the table of failures says why."


def of_left_out(trials: pd.DataFrame, shown: pd.DataFrame) -> Iterator[str]:
    """What trials are in the table of arms alone.

    Args:
        trials: Rows of `store.read_trials`.
        shown: Of them, the rows of `comparability.comparable`.
    """
    if shown.empty:
        return
    alike = comparability.alike(trials)
    other_noise = comparability.of_one_guarantee(trials)["trial_id"].nunique()
    other_noise -= alike["trial_id"].nunique()
    on = trials[trials["dataset"].isin(alike["dataset"])]
    held_out, kept = (set(rows["validation_examples"].fillna(0)) for rows in (on, alike))
    deltas = set(on["delta"].dropna()) - set(alike["delta"])
    setting = [name for name in trial_rows.ARM if name != "engine"]
    every, drawn = (
        trial_rows.ok(rows)[trial_rows.ARM].drop_duplicates() for rows in (alike, shown)
    )
    same = every.merge(drawn[setting].drop_duplicates())
    again = same.merge(drawn[trial_rows.ARM], how="left", indicator=True)
    engines = sorted(again[again["_merge"] == "left_only"]["engine"].unique())
    lone = len(every) - len(same)
    parts = [
        *(f"trials on {name}" for name in sorted(set(trials["dataset"]) - set(on["dataset"]))),
        *(f"trials with validation_examples {size:.0f}" for size in sorted(held_out - kept)),
        *(f"trials with delta {quantities.short(delta)}" for delta in sorted(deltas)),
        *([f"{strings.counted(lone, 'arm')} of one seed, as others have several"] if lone else []),
        *(f"settings by {name} that another engine has trained, too" for name in engines),
        *(
            [
                f"{strings.counted(other_noise, 'trial')} that draw their noise in another way "
                "than the arm's others (column noise_derivation)"
            ]
            if other_noise
            else []
        ),
    ]
    if parts:
        yield f"In the table of arms, and in no figure or answer: {'; '.join(parts)}."
