"""A store's report: one HTML page, and each figure as SVG, PNG and CSV beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from dpbench import store
from dpbench.analysis import (
    comparability,
    metrics,
    private_best,
    scores,
    step_overhead,
    trial_rows,
    user_versions,
)
from dpbench.analysis.answers import Answer, Baseline
from dpbench.analysis.private_best import PrivateBest
from dpbench.privacy import accounting
from dpbench.reporting import answer_caveats, figure_files, figure_specs, findings, page, recipes
from dpbench.reporting.findings import Findings
from dpbench.store import history, private_searches
from dpbench.store.history import Sweep
from dpbench.store.private_searches import PrivateSearch


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A report that was written, and its answers: for a sweep, of its own trials alone.

    Attributes:
        page: Its path.
        facts: What was run, in a line.
        warnings: What is missing from the answer or stands for something else.
        dataset: That the answers are of; None where no trial has run.
        delta: Of their epsilons; None where no private trial has run.
        baseline: What losses are counted from.
        answers: One for each epsilon and way to draw batches.
        notes: What holds for all answers.
        finished: Trials, those that confirm included.
        failed: Trials.
        others: Trials of the store that are not these, and that the page answers for, too.
        private: The best run of each of the store's private searches.
    """

    page: Path
    facts: str
    warnings: Sequence[str]
    dataset: str | None
    delta: float | None
    baseline: Baseline | None
    answers: Sequence[Answer]
    notes: Sequence[str]
    finished: int
    failed: int
    others: int
    private: Sequence[PrivateBest] = ()


def write_report(
    root: Path,
    *,
    own: Sweep | None = None,
    answer_at: Sequence[float] = (),
    choose_by: str | None = None,
) -> Written | None:
    """Writes the store's page, and its figures as SVG, PNG and CSV beside it.

    None, and no file, where the store holds neither a trial nor a timing.

    Args:
        root: The store.
        own: The sweep whose trials are answered for; None for the whole store, as the page is.
        answer_at: Epsilons to answer at; none for those that the store's sweeps asked for.
        choose_by: Metric by which settings are chosen; None for that of the sweeps, or else as in
            `scores.scored`.

    Raises:
        BadInput: No trial has the metric, the store cannot be read, or its folder cannot be written
            to.
    """
    trials, timings = store.read_trials(root), store.read_timings(root)
    if trials.empty and timings.empty:
        return None
    every = accounting.by_one_accountant(trials)
    trials = user_versions.current(every, [] if own is None else own.trial_ids)
    sweeps = history.read(root)
    trials = scores.scored(trials, choose_by or _metric(trials, sweeps if own is None else [own]))
    tuning, unread = findings.tuning(root, trials, sweeps)
    earlier = every[~every["trial_id"].isin(set(trials["trial_id"]))]
    if len(earlier):
        unread = [*unread, user_versions.left_out(earlier)]
        # the same data was tried with them, which has its price
        same = earlier["data_hash"].isin(set(trials["data_hash"]))
        tuning = pd.concat([tuning, earlier[same]])
    read = findings.Store(trials=trials, timings=timings, tuning=tuning)
    searches = private_searches.read(root)
    found = _answered(read, trials, sweeps, answer_at, searches)
    private = _private(searches, every)
    path = root / "report.html"
    contents = _contents(root, read, found, sweeps, unread)
    figure_files.write_file(path, page.render(replace(contents, private=private)))
    rows = trials
    if own is not None:
        rows = trials[trials["trial_id"].isin({*own.trial_ids, *own.confirming})]
        if len(rows) < len(trials) or sweeps != [own]:  # else they answer what the store does
            found = _answered(read, rows, [own], answer_at, searches)
    main = found.main
    return Written(
        page=path,
        facts=found.facts,
        warnings=[*found.warnings, *unread],
        dataset=None if main.empty else found.dataset,
        delta=main["delta"].max() if main["delta"].notna().any() else None,
        baseline=found.baseline,
        answers=found.answers,
        notes=found.notes,
        finished=trial_rows.final(rows)["trial_id"].nunique(),
        failed=trial_rows.failures(rows)["trial_id"].nunique(),
        others=trials["trial_id"].nunique() - rows["trial_id"].nunique(),
        private=private,
    )


def _answered(
    read: findings.Store,
    trials: pd.DataFrame,
    sweeps: Sequence[Sweep],
    answer_at: Sequence[float],
    searches: Sequence[PrivateSearch],
) -> Findings:
    """What the trials answer. Runs of a private search do not: its best run is its only answer.

    Timings alone answer nothing.
    """
    ids = {trial_id for search in searches for trial_id in search.trial_ids}
    others = trials[~trials["trial_id"].isin(ids)]
    if len(trial_rows.private(others)) or not (ids or trials.empty):
        return findings.findings(read, others, sweeps, answer_at)
    found = findings.findings(read, trials, sweeps, answer_at)
    # A run's setting may be drawn twice: that leaves no other run out of the figures.
    left_out = set(answer_caveats.of_left_out(trials, found.main))
    return replace(
        found,
        main=comparability.alike(trials),
        warnings=[each for each in found.warnings if each not in left_out],
        answers=(),
        notes=(),
    )


def _private(searches: Sequence[PrivateSearch], every: pd.DataFrame) -> list[PrivateBest]:
    """The best run of each private search, by its own score alone."""
    if not searches:
        return []
    rows = scores.scored(every)
    return [
        private_best.best(each, rows, [other for other in searches if other is not each])
        for each in searches
    ]


def _metric(trials: pd.DataFrame, sweeps: Sequence[Sweep]) -> str | None:
    """What the sweeps choose by, if any trial has got so far as to have it."""
    named = history.choose_by(sweeps)
    return named if named and metrics.named(named) in scores.names(trials) else None


def _contents(
    root: Path,
    read: findings.Store,
    found: Findings,
    sweeps: Sequence[Sweep],
    unread: Sequence[str],
) -> page.Contents:
    """What the page shows; the figures' files are written."""
    trials, timings = read.trials, read.timings
    confirming = trials["trial_id"].isin(history.confirmations(sweeps))
    timed = step_overhead.timed_alike(timings[timings["dataset"] == found.dataset])
    timed = comparability.of_most(timed, "model")
    with_accuracy = found.main[found.main["test_accuracy"].notna() | (found.main["status"] != "ok")]
    arms = page.sorted_arms(trials[~confirming])
    pictures = [
        figure_files.write(root, each)
        for each in figure_specs.of_store(with_accuracy, timed, found.answers, trials[confirming])
    ]
    return page.Contents(
        name=root.resolve().name,
        facts=found.facts,
        warnings=[*found.warnings, *unread],
        baseline=found.baseline,
        answers=[_shown(answer, found, arms) for answer in found.answers],
        notes=found.notes,
        pictures=sorted(pictures, key=lambda each: each.svg is None),  # what is drawn first
        tables=_tables(trials, timings, confirming),
        sweeps=sweeps,
        shuffled=bool((trials["sampling"] == "shuffle").any()),
    )


def _shown(answer: Answer, found: Findings, arms: pd.DataFrame) -> page.Shown:
    """The answer with the row of its arm, and what can be taken along."""
    best = answer.best
    if best is None:
        return page.Shown(answer=answer, row=None, recipes=())
    arm = page.arm_of(arms, found.dataset, best)
    held_out = int(found.main["validation_examples"].fillna(0).max())
    loss = None if arm is None or pd.isna(arm["loss"]) else arm["loss"]
    code = recipes.opacus_code(best, loss=loss)
    file = recipes.sweep_file(
        best,
        dataset=found.dataset,
        validation_examples=held_out,
        model_args=None if arm is None or pd.isna(arm["model_args"]) else arm["model_args"],
        loss=loss,
    )
    return page.Shown(
        answer=answer,
        row=None if arm is None else page.row_id(arm),
        recipes=[
            *([page.Recipe(name="Opacus code", text=code)] if code is not None else []),
            page.Recipe(name="sweep file", text=file),
            page.Recipe(name="privacy statement", text=best.statement),
        ],
    )


def _tables(
    trials: pd.DataFrame, timings: pd.DataFrame, confirming: "pd.Series[bool]"
) -> tuple[page.Table, ...]:
    return (
        page.arms_table(trials[~confirming]),
        page.confirmations_table(trials[confirming]),
        page.failures_table(trials),
        page.provenance_table(trials, timings),
    )
