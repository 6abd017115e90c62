"""Numbers as they are typed: `64`, `64,128`, `0.5:2:0.5` and `log:0.1:10:5`."""

import math
from decimal import Decimal, InvalidOperation

from dpbench.errors import BadInput

Number = int | float

FORMS = "1,2 or FIRST:LAST:STEP or log:FIRST:LAST:COUNT"
MOST = 1_000  # values of a range; more is a slip in its step
_DIGITS = 4  # of the values between the ends of a logarithmic range, so that they can be typed


def parsed(name: str, text: str, kind: type[int] | type[float]) -> list[Number]:
    """The numbers, in the order in which they are typed.

    `FIRST:LAST:STEP` holds LAST where a step lands on it. `log:FIRST:LAST:COUNT` is COUNT values of
    equal ratios, with both ends.

    Args:
        name: Of what takes them, for messages.
        text: As typed.
        kind: Of a number.

    Raises:
        BadInput: It is none of these forms.
    """
    found: list[Number] = []
    for part in text.split(","):
        found += _range(name, part, kind) if ":" in part else [_number(name, part, kind)]
    return found


def _number(name: str, text: str, kind: type[int] | type[float]) -> Number:
    try:
        number = float(text)
        if kind is float:
            return number
        if "e" not in text.lower():
            return int(text)
        if number.is_integer():
            return int(number)
    except (ValueError, OverflowError):
        pass
    noun = "whole number" if kind is int else "number"
    raise BadInput(f"Expected {name}={text!r} to be a {noun}.")


def _range(name: str, text: str, kind: type[int] | type[float]) -> list[Number]:
    first, *rest = text.split(":")
    try:
        if first == "log":
            return _logarithmic(name, text, *map(Decimal, rest), kind=kind)
        return _linear(name, text, *map(Decimal, [first, *rest]), kind=kind)
    except (TypeError, InvalidOperation):  # too few or too many parts, or one that is no number
        raise BadInput(f"Expected {name}={text!r} to be numbers: {FORMS}.") from None


def _linear(
    name: str,
    text: str,
    first: Decimal,
    last: Decimal,
    step: Decimal,
    *,
    kind: type[int] | type[float],
) -> list[Number]:
    if not (step.is_finite() and step != 0 and 0 <= (last - first) / step < MOST):
        raise BadInput(
            f"Expected {name}={text!r} to lead from FIRST to LAST in at most {MOST:,} steps."
        )
    steps = int((last - first) / step)
    return [_number(name, str(first + step * index), kind) for index in range(steps + 1)]


def _logarithmic(
    name: str,
    text: str,
    first: Decimal,
    last: Decimal,
    count: Decimal,
    *,
    kind: type[int] | type[float],
) -> list[Number]:
    if not (first > 0 and last > 0 and last.is_finite() and first.is_finite()):
        raise BadInput(f"Expected {name}={text!r} to have ends above 0.")
    if not (2 <= count <= MOST and count == int(count)):
        raise BadInput(f"Expected {name}={text!r} to end with a count from 2 to {MOST:,}.")
    ends, steps = (math.log(first), math.log(last)), int(count) - 1
    between = [math.exp(ends[0] + (ends[1] - ends[0]) * index / steps) for index in range(1, steps)]
    if kind is int:
        inner: list[Number] = [round(value) for value in between]
    else:
        inner = [float(f"{value:.{_DIGITS}g}") for value in between]
    return [_number(name, str(first), kind), *inner, _number(name, str(last), kind)]
