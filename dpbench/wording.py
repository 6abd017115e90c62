"""The answer in words: the same sentences for the terminal and for the page."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from dpbench import analysis, command
from dpbench.analysis import Difference
from dpbench.summary import Accuracy, Answer, Baseline, Setting, StepTime

FAILURES_SHOWN = 30
ACCOUNTANTS = {"pld": "PLD", "prv": "PRV", "rdp": "RDP", "gaussian": "Gaussian"}

_HEADER = (
    "epsilon <=",
    "accuracy",
    "points lost",
    "step time",
    "noise",
    "clip",
    "batch",
    "lr",
    "epochs",
    "sampling",
)


def baseline(found: Baseline | None) -> str:
    """What a loss is counted from, in one sentence."""
    if found is None:
        return "There is no non-private trial to compare with."
    shuffled = "" if found.sampling == "poisson" else ", shuffled"
    chosen = f", of {found.arms} chosen on the {_set(found.chosen_by)} set,"
    return (
        f"On {found.dataset}, the best non-private setting{chosen if found.arms > 1 else ''} "
        f"reaches {accuracy(found.accuracy)} with batch size {found.batch_size}, learning rate "
        f"{found.learning_rate:g} and {command.counted(found.epochs, 'epoch')}{shuffled}."
    )


def sentence(answer: Answer) -> str:
    """The best setting, its accuracy, what it loses and what it costs in time: one sentence."""
    within = f"With epsilon at most {answer.epsilon_at_most:g}"
    best = answer.best
    if best is None:
        return f"{within}, there is no answer: no epoch of a private trial has spent so little."
    return (
        f"{within} (delta {analysis.short(best.delta)}, {ACCOUNTANTS[best.accountant]}), the best "
        f"setting is {setting(best.setting)}: it reaches {accuracy(best.accuracy)}, "
        f"{_lost(best.loss)}, and {_time(best.step_times)}."
    )


def remarks(answer: Answer) -> Iterator[str]:
    """What to know of the choice: how it was made, how clear it is, and what choosing costs."""
    best = answer.best
    if best is None or best.next is None:
        return
    of = _set(best.chosen_by)
    biased = "" if of == "validation" else ", so its accuracy is a little too good"
    yield f"It is the best of {command.counted(best.arms, 'arm')} on the {of} set{biased}."
    if best.ahead is not None and best.ahead.seeds > 1:
        clear = "" if best.ahead.low > 0 else ", so the two may be equally good"
        yield (
            f"It is {points(best.ahead)} more accurate than the next ({setting(best.next)}), "
            f"paired by seed{clear}."
        )
    if best.epsilon_of_choice is not None:
        yield (
            f"Its epsilon of {best.epsilon:.2g} is that of one run; no such bound holds for the "
            "best of a fixed grid. The best of a random number of settings drawn at random, "
            f"{best.arms} on average, spends {best.epsilon_of_choice:.2g} (Papernot and Steinke "
            "2022), which does not protect the examples that it is chosen by."
        )


def table(answers: Sequence[Answer]) -> str:
    """The answers as a small table for a terminal."""
    return command.table(_HEADER, [_row(answer) for answer in answers])


def _row(answer: Answer) -> tuple[str, ...]:
    best = answer.best
    if best is None:
        return (f"{answer.epsilon_at_most:g}", "no trial", *["-"] * (len(_HEADER) - 2))
    chosen = best.setting
    return (
        f"{answer.epsilon_at_most:g}",
        accuracy(best.accuracy, seeds=""),
        "-" if best.loss is None else points(best.loss, unit=""),
        f"{best.step_times[0].ratio:.2f} x" if best.step_times else "-",
        f"{chosen.noise_multiplier:g}",
        f"{chosen.max_grad_norm:g}",
        f"{chosen.batch_size}",
        f"{chosen.learning_rate:g}",
        f"{chosen.epochs}",
        chosen.sampling,
    )


def setting(chosen: Setting) -> str:
    """A setting under the names of the flags."""
    parts = [
        f"noise multiplier {chosen.noise_multiplier:g}",
        f"clipping norm {chosen.max_grad_norm:g}",
        f"batch size {chosen.batch_size}",
        f"learning rate {chosen.learning_rate:g}",
        *([f"momentum {chosen.momentum:g}"] if chosen.momentum else []),
        *(["shuffled batches"] if chosen.sampling != "poisson" else []),
    ]
    return f"{', '.join(parts)} and {command.counted(chosen.epochs, 'epoch')}"


def accuracy(seen: Accuracy, seeds: str = " ({} seeds)") -> str:
    """Percent, with the half-width of the interval where there are several seeds."""
    if seen.seeds < 2:
        return f"{100 * seen.mean:.2f} %"
    half = 100 * (seen.high - seen.mean)
    return f"{100 * seen.mean:.2f} ± {half:.2f} %{seeds.format(seen.seeds)}"


def points(difference: Difference, unit: str = " points") -> str:
    """Percentage points, with the interval where there is one."""
    shown = f"{100 * difference.mean:.2f}{unit}"
    if math.isnan(difference.low):
        return shown
    return f"{shown} ({100 * difference.low:.2f} to {100 * difference.high:.2f})"


def ratio(middle: float, low: float, high: float) -> tuple[str, str, str]:
    """The numbers in as many digits: two, or three where two do not tell the ends apart."""
    digits = 3 if f"{low:.2f}" == f"{high:.2f}" else 2
    return f"{middle:.{digits}f}", f"{low:.{digits}f}", f"{high:.{digits}f}"


def _lost(loss: Difference | None) -> str:
    if loss is None:
        return "with no non-private trial to say what it loses"
    return f"loses {points(loss)} against the best non-private setting"


def _time(step_times: Sequence[StepTime]) -> str:
    if not step_times:
        return "what it costs in time was not measured"
    own, *others = step_times
    times, low, high = ratio(own.ratio, own.low, own.high)
    text = (
        f"a step of that batch size takes {times} times as long as a non-private one by "
        f"{own.engine} ({low} to {high})"
    )
    opacus = next((other for other in others if other.engine == "opacus-hooks"), None)
    return text if opacus is None else f"{text}, {opacus.ratio:.2f} times by {opacus.engine}"


def _set(chosen_by: str) -> str:
    """Of which examples the column is: `validation` or `test`."""
    return chosen_by.partition("_")[0]


def unfinished(trials: pd.DataFrame, asked: Sequence[str]) -> Iterator[str]:
    """A table of the trials that have no last epoch; nothing where all have.

    Args:
        trials: Rows of `store.read_trials`.
        asked: The ids of all trials of the sweep.
    """
    finished = set(analysis.final(trials)["trial_id"])
    failed = analysis.failures(trials)
    failed = failed[failed["trial_id"].isin(set(asked) - finished)]
    lost = len(set(asked) - finished - set(failed["trial_id"]))
    every = command.counted(len(asked), "trial")
    if len(failed):
        yield f"{len(failed)} of {every} failed; their rows have the tracebacks:"
        yield f"{'trial_id':<16}  {'status':<13}  epoch  reason"
    for row in failed.head(FAILURES_SHOWN).to_dict("records"):
        reason = command.one_line(row["reason"])
        yield f"{row['trial_id']:<16}  {row['status']:<13}  {row['epoch']:>5}  {reason}"
    if len(failed) > FAILURES_SHOWN:
        yield f"... and {len(failed) - FAILURES_SHOWN} more"
    if len(failed):
        yield "The same command tries crashes again; with --retry-failed, it tries all of them."
    if lost:
        yield f"{lost} of {every} could not be read, of damaged files: run the same command again."
