"""Privacy budgets: the epsilons within which the best setting is reported."""

import math
from typing import Any

from dpbench.errors import BadInput

ANSWER_AT = (1.0, 3.0, 8.0)  # where neither the user nor a target epsilon says


def epsilons(values: Any) -> tuple[float, ...]:
    """The budgets in rising order, each once.

    Args:
        values: A number, or a list of numbers.

    Raises:
        BadInput: A value is not a positive finite number, or there is none.
    """
    several = values if isinstance(values, list | tuple) else [values]
    if not several:
        raise BadInput("Expected answer_at to hold at least one epsilon, not [].")
    for value in several:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < value < math.inf):
            raise BadInput(f"Expected answer_at={value!r} to be an epsilon: > 0 and finite.")
    return tuple(sorted({float(value) for value in several}))
