"""The answers of a store's trials, or of one sweep's, with their facts, warnings and notes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dpbench import store, strings
from dpbench.analysis import comparability, recommendation, step_overhead, trial_rows
from dpbench.analysis.answers import Answer, Baseline
from dpbench.reporting import answer_caveats, quantities, text, timing_caveats
from dpbench.store import history
from dpbench.store.history import Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """What was read.

    Attributes:
        trials: Every row of `store.read_trials`.
        timings: Every row of `store.read_timings`.
        tuning: Rows of trials in the stores in which the sweeps were tuned.
    """

    trials: pd.DataFrame
    timings: pd.DataFrame
    tuning: pd.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What some trials of a store answer.

    Attributes:
        main: Their rows that compare, without those that confirm.
        dataset: Of these or, without a trial, of the timings.
        facts: What was run, in a line.
        warnings: What is missing from the answer or stands for something else.
        baseline: What losses are counted from.
        answers: One for each epsilon and way to draw batches.
        notes: What holds for all answers.
    """

    main: pd.DataFrame
    dataset: str
    facts: str
    warnings: Sequence[str]
    baseline: Baseline | None
    answers: Sequence[Answer]
    notes: Sequence[str]


def findings(
    read: Store, trials: pd.DataFrame, sweeps: Sequence[Sweep], answer_at: Sequence[float] = ()
) -> Findings:
    """What the trials answer.

    Args:
        read: The store.
        trials: Of its rows, those of all trials, or of the one sweep that is answered for.
        sweeps: That made them; they name the confirming trials and the epsilons to answer at.
        answer_at: Epsilons to answer at; none for those of the sweeps.
    """
    confirming = history.confirmations(sweeps)
    confirms = trials["trial_id"].isin(confirming)
    grid, confirmations = trials[~confirms], trials[confirms]
    main = comparability.comparable(grid)
    known = read.timings if main.empty else main
    dataset = "" if known.empty else str(comparability.of_most(known, "dataset")["dataset"].iloc[0])
    measured = read.timings[read.timings["dataset"] == dataset]
    timed = step_overhead.timed_alike(measured)
    answers = recommendation.answers(
        main,
        comparability.of_most(timed, "device"),
        at=answer_at or history.epsilons(sweeps),
        confirmations=confirmations,
        every=read.trials[read.trials["dataset"] == dataset],
        tuning=read.tuning[read.tuning["dataset"] == dataset],
    )
    return Findings(
        main=main,
        dataset=dataset,
        facts=_facts(trials, main),
        warnings=[
            *answer_caveats.of_progress(
                trials,
                {each for sweep in sweeps for each in sweep.trial_ids} | confirming,
                history.dropped(sweeps),
            ),
            *answer_caveats.of_left_out(grid, main),
            *timing_caveats.of_other_timings(read.timings, dataset),
            *timing_caveats.of_other_conditions(measured, timed),
            *timing_caveats.of_other_models(timed),
            *answer_caveats.of_dataset(main),
            *answer_caveats.of_delta(trials),
        ],
        baseline=recommendation.baseline(main, confirmations),
        answers=answers,
        notes=[
            *text.of_metric(answers),
            *answer_caveats.of_choice(answers),
            *answer_caveats.of_noise(trials),
        ],
    )


def tuning(
    root: Path, trials: pd.DataFrame, sweeps: Sequence[Sweep]
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of trials in the stores in which the sweeps were tuned; and which are not there.

    A folder is looked for as it was typed, and beneath the folders that the store is in.

    Args:
        root: The store.
        trials: Its rows, for their columns.
        sweeps: Of the store.
    """
    found, unread = [trials.iloc[:0]], []
    for name in dict.fromkeys(each for sweep in sweeps for each in sweep.tuned_in):
        places = [Path(name), *(above / name for above in root.resolve().parents)]
        folder = next((each for each in places if os.path.isdir(each / "trials")), None)  # noqa: PTH112
        if folder is None:
            unread.append(
                f"Settings were tuned in {name}, which is not there: what choosing costs does not "
                "count its trials."
            )
        else:
            found.append(store.read_trials(folder))
    return pd.concat(found), unread


def _facts(trials: pd.DataFrame, main: pd.DataFrame) -> str:
    """What was run, in a line: on the dataset of the answers, and at their delta."""
    if trials.empty:
        return "Timings only: no trial was trained."
    rows = trials[trials["dataset"].isin(main["dataset"])]
    finished = strings.counted(trial_rows.final(rows)["trial_id"].nunique(), "trial")
    parts = [f"{finished} finished on {rows['dataset'].iloc[0]}"]
    named = [name for key, name in quantities.ACCOUNTANTS.items() if key in set(main["accountant"])]
    if named:
        delta = quantities.short(main["delta"].max())
        parts.append(f"epsilon at delta {delta}, by {' or '.join(named)}")
    sizes = [str(size) for size in sorted(rows["batch_size"].unique())]
    parts += [
        f"model {', '.join(sorted(rows['model'].unique()))}",
        f"batch size{'s' if len(sizes) > 1 else ''} {', '.join(sizes)}",
        strings.counted(rows["seed"].nunique(), "seed"),
    ]
    if rows["started_at"].notna().any():
        parts.append(f"{rows['started_at'].min():%Y-%m-%d}")
    return f"{'; '.join(parts)}."
