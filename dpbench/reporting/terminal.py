"""Answers and failures for a terminal or, as JSON, for a script."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from dpbench import console, strings, user_code
from dpbench.analysis import trial_rows
from dpbench.analysis.answers import Answer, Best
from dpbench.privacy import guarantee
from dpbench.reporting import private_text, text
from dpbench.trial import DEFAULT_MODEL

if TYPE_CHECKING:
    from dpbench.reporting.store_report import Written

JSON_VERSION = 2
FAILURES_SHOWN = 30
_INDENT = "    "
_REACHED = ("epsilon", "spent", "accuracy %", "points lost", "step")
_SETTING = ("noise", "clip", "batch", "lr", "epochs")
_UNUSUAL = {"model": DEFAULT_MODEL, "optimizer": "sgd", "momentum": 0.0, "clipping": "flat"}


def as_text(written: "Written") -> str:
    """Facts, warnings, a table of answers for each way to draw batches, notes, and the page."""
    only_baselines = written.baseline is not None and written.delta is None
    groups = [] if only_baselines else by_sampling(written.answers)
    tables = ["No private trial was run: there is no answer at an epsilon."] * only_baselines
    for title, answers in groups:
        shuffled = any(answer.sampling == "shuffle" for answer in answers)
        titled = len(groups) > 1 or shuffled
        tables += [title] if titled else []
        for part in _parts(answers):
            head, _, rest = part.partition("\n")
            tables += [console.bold(head), rest]
    first = [written.facts, *written.warnings]
    if written.answers or not written.private:  # a private search trains no baseline
        first.append(text.baseline(written.baseline))
    others = (
        f" (of {strings.counted(written.others, 'other trial')}, too)" if written.others else ""
    )
    last = [
        *text.weak(written.answers, written.baseline),
        *written.notes,
        *private_text.several(written.private),
    ]
    return "\n".join(
        [*map(_sentence, first), *tables, *map(_sentence, last), f"page: {written.page}{others}"]
    )


def _sentence(said: str) -> str:
    return console.wrapped(strings.printable(said))


def as_json(written: "Written") -> str:
    """One JSON object; numbers have all their digits."""
    return strings.json_text(
        schema_version=JSON_VERSION, **asdict(written) | {"page": str(written.page)}
    )


def table(answers: Sequence[Answer]) -> str:
    """The answers as a small table for a terminal; two where it is too narrow for one."""
    return "\n".join(_parts(answers))


def _parts(answers: Sequence[Answer]) -> list[str]:
    """What is reached beside its settings or, in a narrow terminal, above them."""
    given = [answer.best for answer in answers if answer.best is not None]
    reached = list(_REACHED)
    if given and all(math.isnan(best.accuracy.mean) for best in given):  # targets are no classes
        reached[reached.index("accuracy %")] = f"test {given[0].metric}"
    unusual = [
        name
        for name, usual in _UNUSUAL.items()
        if any(getattr(best.setting, name) != usual for best in given)
    ]
    settings = [*_SETTING, *unusual]
    left = [_reached(answer) for answer in answers]
    right = [_setting(answer, unusual) for answer in answers]
    rows = [(*one, *other) for one, other in zip(left, right, strict=True)]
    whole = strings.table([*reached, *settings], rows)
    if max(map(len, whole.splitlines())) <= console.columns():
        return [whole]
    named = [(one[0], *other) for one, other in zip(left, right, strict=True)]
    return [
        strings.table(reached, left, console.columns()),
        strings.table([reached[0], *settings], named, console.columns()),
    ]


def by_sampling(answers: Sequence[Answer]) -> list[tuple[str, list[Answer]]]:
    """The answers of each way to draw batches under a line that names it and its neighbours."""
    names = {"poisson": "Poisson batches", "shuffle": "Shuffled batches"}
    return [
        (
            f"{names[sampling]}; epsilon for neighbours that differ "
            f"{guarantee.NEIGHBOURS[sampling]}:",
            [answer for answer in answers if answer.sampling == sampling],
        )
        for sampling in dict.fromkeys(answer.sampling for answer in answers)
    ]


def _reached(answer: Answer) -> tuple[str, ...]:
    best, within = answer.best, f"{answer.epsilon_at_most:g}"
    if best is None:
        return (within, "-", "no trial", *["-"] * (len(_REACHED) - 3))
    return (
        within,
        guarantee.rounded_up(best.epsilon, 3),
        _accuracy_cell(best),
        _lost_cell(best),
        f"{best.step_times[0].ratio:.2f} x" if best.step_times else "-",
    )


def _setting(answer: Answer, unusual: Sequence[str]) -> tuple[str, ...]:
    """Of the best setting what is always shown, and what is not the default of any answer's."""
    if answer.best is None:
        return tuple("-" for _ in (*_SETTING, *unusual))
    chosen = answer.best.setting
    also = {
        "model": user_code.shown(chosen.model),
        "optimizer": chosen.optimizer,
        "momentum": f"{chosen.momentum:g}",
        "clipping": chosen.clipping,
    }
    return (
        f"{chosen.noise_multiplier:.4g}",
        f"{chosen.max_grad_norm:g}",
        f"{chosen.batch_size}",
        f"{chosen.learning_rate:g}",
        f"{chosen.epochs}",
        *(also[name] for name in unusual),
    )


def _accuracy_cell(best: Best) -> str:
    """Percent with half of the interval's width; with the seeds' range where that says more.

    Where targets are no classes, the metric that it was chosen by.
    """
    seen = best.accuracy
    if math.isnan(seen.mean):
        return f"{best.test_metric:.4g}"
    mean = f"{100 * seen.mean:.2f}"
    if seen.seeds < 2:
        return mean
    if math.isnan(seen.low) or seen.low < 0 or seen.high > 1:
        return f"{mean} ({100 * seen.least:.0f}-{100 * seen.most:.0f})"
    return f"{mean} ± {100 * (seen.high - seen.mean):.2f}"


def _lost_cell(best: Best) -> str:
    """Points with half of the interval's width, or that they are not told apart from none."""
    if best.loss is None:
        return "-"
    if best.verdict == "loses":
        lost = f"{100 * best.loss.mean:.2f}"
        half = 100 * (best.loss.high - best.loss.mean)
        return lost if math.isnan(half) else f"{lost} ± {half:.2f}"
    return "no clear one" if best.verdict == "not-told-apart" else "none (below)"


def unfinished(trials: pd.DataFrame, trial_ids: Sequence[str]) -> Iterator[str]:
    """A table of the trials that have no last epoch; nothing where all have.

    Args:
        trials: Rows of `store.read_trials`.
        trial_ids: Of all trials of the sweep.
    """
    finished = set(trial_rows.final(trials)["trial_id"])
    failed = trial_rows.failures(trials)
    failed = failed[failed["trial_id"].isin(set(trial_ids) - finished)]
    lost = len(set(trial_ids) - finished - set(failed["trial_id"]))
    every = strings.counted(len(trial_ids), "trial")
    if len(failed):
        yield f"{len(failed)} of {every} failed; their rows have the tracebacks:"
        yield f"{'trial_id':<16}  {'status':<13}  epoch  reason"
    for row in failed.head(FAILURES_SHOWN).to_dict("records"):
        yield _failure(row)
    if len(failed) > FAILURES_SHOWN:
        yield f"... and {len(failed) - FAILURES_SHOWN} more"
    if len(failed):
        yield "The same command tries crashes again; with --retry-failed, it tries all of them."
    if lost:
        yield f"{lost} of {every} could not be read, of damaged files: run the same command again."


def _failure(row: Mapping[Any, Any]) -> str:
    """A failed trial as a line; as two, where its reason would not fit the terminal."""
    reason = strings.one_line(row["reason"])
    line = f"{row['trial_id']:<16}  {row['status']:<13}  {row['epoch']:>5}"
    if len(line) + 2 + len(reason) <= console.columns():
        return f"{line}  {reason}"
    return "\n".join(
        [
            line,
            *textwrap.wrap(
                reason, console.columns() - 4, initial_indent=_INDENT, subsequent_indent=_INDENT
            ),
        ]
    )
