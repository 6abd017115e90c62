"""The arguments of users' functions as axes: `width=16,32 depth=2`, or a mapping."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dpbench.errors import BadInput
from dpbench.search import ranges
from dpbench.search.space import Values

_WORDS = {"true": True, "false": False, "none": None, "null": None}


def parsed(name: str, value: Any) -> dict[str, Values] | None:
    """The values of each argument, or the range that a search draws them from.

    Args:
        name: Of the axis, for messages.
        value: None, a mapping from names to one or more values or a range, or texts
            `NAME=VALUE,VALUE` or `NAME=LOW:HIGH`.

    Raises:
        BadInput: A text has no name, or an argument no value, a repeated one or one that is no
            number, text, truth value or null.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        pairs = [
            (str(key), list(each) if isinstance(each, list | tuple | range) else [each])
            for key, each in value.items()
        ]
    else:
        pairs = [_pair(name, text) for text in ([value] if isinstance(value, str) else value)]
    found: dict[str, Values] = {}
    for key, values in pairs:
        if not key.isidentifier():
            raise BadInput(f"Expected {name} to name arguments of a function, not {key!r}.")
        if key in found:
            raise BadInput(f"Expected each argument in {name} once, not {key} twice.")
        drawn = ranges.parsed(f"{name} {key}", values[0]) if len(values) == 1 else None
        found[key] = drawn or _checked(f"{name} {key}", values)
    return found or None


def _pair(name: str, text: Any) -> tuple[str, list[Any]]:
    key, equals, values = str(text).partition("=")
    if not equals:
        raise BadInput(f"Expected {name} to be NAME=VALUE or NAME=VALUE,VALUE, not {text!r}.")
    return key, [_value(each) for each in values.split(",")]


def _value(text: str) -> Any:
    """A number, a truth value, None, or else the text itself."""
    if text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


def _checked(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    if not values or values == [""]:
        raise BadInput(f"Expected {name} to have a value.")
    for index, each in enumerate(values):
        if not isinstance(each, bool | int | float | str | None):
            raise BadInput(f"Expected {name}={each!r} to be a number, a text, true, false or null.")
        if json.dumps(each) in [json.dumps(other) for other in values[:index]]:
            raise BadInput(f"Expected each {name} once, not {each!r} twice.")
    return tuple(values)
