"""What a sweep is to answer, beside its grid: at which epsilons, confirmed on how many seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpbench.errors import BadInput
from dpbench.trial import Trial

ANSWER_AT = (1.0, 3.0, 8.0)  # where neither the user nor a target says
KEYS = ("answer_at", "confirm", "tuned_in")  # of a sweep file's top level


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a grid's trials.

    Attributes:
        answer_at: The best setting is told within each of these epsilons; rising.
        confirm: Seeds on which the best settings are run again, for their accuracy; 0 for none.
        tuned_in: Stores in which settings were tried on the same data before: their trials count
            in what choosing costs.
    """

    answer_at: tuple[float, ...]
    confirm: int = 0
    tuned_in: tuple[str, ...] = ()


def question(
    flags: Mapping[str, Any], top: Mapping[str, Any], targets: Iterable[float]
) -> Question:
    """What the flags and a sweep file's top level ask for; a flag beats the file.

    Args:
        flags: Values of KEYS, None where a flag is not given.
        top: Of the file.
        targets: The epsilons that the grids solve for; without `answer_at`, they are answered for.

    Raises:
        BadInput: A value is of the wrong type or out of range.
    """
    given = {key: value for key, value in top.items() if key in KEYS}
    given |= {key: value for key, value in flags.items() if key in KEYS and value is not None}
    asked = given.get("answer_at", sorted(set(targets)) or ANSWER_AT)
    confirm = given.get("confirm", 0)
    if isinstance(confirm, bool) or not isinstance(confirm, int) or confirm < 0:
        raise BadInput(f"Expected confirm={confirm!r} to be a number of seeds, 0 or more.")
    tuned_in = given.get("tuned_in", ())
    folders = [tuned_in] if isinstance(tuned_in, str) else tuned_in
    if not isinstance(folders, list | tuple) or not all(isinstance(each, str) for each in folders):
        raise BadInput(f"Expected tuned_in={tuned_in!r} to be a store's folder, or several.")
    return Question(
        answer_at=epsilons(asked), confirm=confirm, tuned_in=tuple(dict.fromkeys(folders))
    )


def epsilons(asked: Any) -> tuple[float, ...]:
    """The epsilons to answer at, rising, each once.

    Raises:
        BadInput: One is not a positive number.
    """
    values = asked if isinstance(asked, list | tuple) else [asked]
    if not values:
        raise BadInput("Expected answer_at to hold at least one epsilon, not [].")
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < value < math.inf):
            raise BadInput(f"Expected answer_at={value!r} to be an epsilon: > 0 and finite.")
    return tuple(sorted({float(value) for value in values}))


def fresh_seeds(trials: Sequence[Trial], count: int) -> list[int]:
    """So many seeds that none of the trials has: those that follow their largest.

    Raises:
        BadInput: There are not so many.
    """
    if not (count and trials):
        return []
    largest = max(trial.seed for trial in trials)
    if largest + count >= 2**63:
        raise BadInput(f"Expected confirm={count} seeds after seed={largest}, and below 2**63.")
    return list(range(largest + 1, largest + 1 + count))
