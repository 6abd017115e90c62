"""A range that a search draws values from: `0.1:16`, `log:0.1:16`, or a table of a sweep file."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpbench.errors import BadInput

DIGITS = 3  # significant ones of a number that is drawn, so that it reads well and can be typed

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_TEXT = re.compile(rf"(?P<log>log:)?(?P<low>{_NUMBER}):(?P<high>{_NUMBER})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Range:
    """All values from `low` to `high`, of which a search draws some.

        dpbench.Grid(learning_rate=dpbench.Range(0.1, 16, log=True), batch_size=[256, 1024])

    Attributes:
        low: The least value. Where both ends are whole numbers, so is each value that is drawn.
        high: The largest.
        log: Whether equal ratios are as likely as one another, not equal differences.

    Raises:
        BadInput: The ends are no finite numbers or do not rise, or one of a logarithm is not
            above 0.
    """

    low: float
    high: float
    log: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value)):
                raise BadInput(f"Expected {name}={value!r} of a range to be a finite number.")
        if not isinstance(self.log, bool):
            raise BadInput(f"Expected log={self.log!r} of a range to be true or false.")
        if not self.low < self.high:
            raise BadInput(f"Expected a range with low={self.low} < high={self.high}.")
        if self.log and self.low <= 0:
            raise BadInput(f"Expected a logarithmic range with low={self.low} > 0.")

    def __repr__(self) -> str:
        return f"Range({self.low!r}, {self.high!r}{', log=True' if self.log else ''})"

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{self.low:g}:{self.high:g}"

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, position: float) -> float:
        """The value at a position in [0, 1), rounded to three digits or to a whole number."""
        low, high = (float(self.low), float(self.high) + (1 if self.whole else 0))
        if self.log:
            value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
        else:
            value = low + position * (high - low)
        return self.rounded(math.floor(value) if self.whole else value)

    def rounded(self, value: float) -> float:
        """The value to three digits, or to a whole number, and within the range."""
        close = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return min(max(close, self.low), self.high)


def parsed(name: str, value: Any) -> Range | None:
    """The range that a text, a table of a sweep file or a `Range` is; None where it is none.

    Args:
        name: Of what takes it, for messages.
        value: As typed.

    Raises:
        BadInput: It is a range, but no valid one.
    """
    try:
        if isinstance(value, str) and (found := _TEXT.fullmatch(value.strip())):
            low, high = (_number(found[end]) for end in ("low", "high"))
            return Range(low, high, log=found["log"] is not None)
        if isinstance(value, Mapping):
            return _of_table(value)
    except BadInput as error:
        raise BadInput(f"In {name}: {error}") from None
    return value if isinstance(value, Range) else None


def listed(name: str, values: Sequence[Any] | Range | None) -> tuple[Any, ...]:
    """The values where no search draws them; none of None.

    Raises:
        BadInput: They are a range.
    """
    if isinstance(values, Range):
        raise BadInput(
            f"Expected {name} to be values, not the range {values}, without a search: say with "
            "--search N how many settings are drawn from it, or name its values."
        )
    return tuple(values or ())


def _number(text: str) -> float:
    return float(text) if re.search(r"[.e]", text, re.IGNORECASE) else int(text)


def _of_table(table: Mapping[str, Any]) -> Range:
    unknown = sorted(table.keys() - {"low", "high", "log"})
    if unknown or not {"low", "high"} <= table.keys():
        written = "{ low = 0.1, high = 16, log = true }"
        wrong = f"unknown {unknown[0]!r}" if unknown else "no low or no high"
        raise BadInput(f"Expected a range like {written}: {wrong}.")
    return Range(table["low"], table["high"], log=table.get("log", False))
