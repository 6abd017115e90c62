"""The axes of a grid: one definition for the field, the flag and the key of a sweep file."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dpbench import flag_names, number_lists, plugins, user_code
from dpbench.errors import BadInput
from dpbench.execution import arguments
from dpbench.search import ranges
from dpbench.search.ranges import Range

Kind = type[float] | type[int] | type[str] | type[bool] | type[dict[str, Any]]  # axes by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What a field of a grid takes.

    Attributes:
        name: Of the field, and of the key in a sweep file.
        kind: Of a value.
        many: Whether it takes several values; otherwise it holds for every trial of the grid.
        help: For `--help`.
        flags: On the command line.
        choices: Of a name; empty where any is allowed.
        references: Whether a function of the user's may be named, too.
        default: Of the field; None where it depends on the dataset or the batch size.
        share: Whether a share of the training examples, `10%` or 0.1, stands for their number.
        searched: Whether a search draws from its values, or from a range of numbers. Then an axis
            that takes one value takes several, too.
    """

    name: str
    kind: Kind
    many: bool
    help: str
    flags: tuple[str, ...]
    choices: tuple[str, ...]
    default: Any
    references: bool = False
    share: bool = False
    searched: bool = False

    @property
    def keys(self) -> dict[str, bool]:
        """The keys of a sweep file that name the axis; whether each says the opposite of it."""
        aliases = (each for flag in self.flags for each in flag_names.ALIASES.get(flag, ()))
        named = {flag_names.key(flag): False for flag in (*self.flags, *aliases)}
        if self.default is True:  # its flags switch it off
            named = dict.fromkeys(named, True)
        return named | {self.name: False}

    def parsed(self, value: Any) -> Any:
        """The value of the field from that of a caller, a flag or a key; one stands for a list.

        Text holds numbers as they are typed (see `number_lists`), a range (see `search.ranges`), or
        names with commas between them. A name with `:` is a reference, and one with `=` an
        argument: each stays as it is.

        Raises:
            BadInput: A value is of the wrong type, no choice or repeated, or there is none.
        """
        if hasattr(value, "tolist"):  # numpy's arrays and scalars
            value = value.tolist()
        if self.kind is dict:
            return arguments.parsed(self.name, value)
        several = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
        given = list(value) if several else [value]
        if (found := self._range(given)) is not None:
            return found
        typed = [one for each in given for one in self._typed(each)]
        if not self.many and (len(typed) == 1 or not (typed and self.searched)):
            return self._checked(self.only(typed))
        values = tuple(map(self._checked, typed))
        if not values:
            raise BadInput(f"Expected {self.name} to hold at least one value, not [].")
        for index, each in enumerate(values):
            if each in values[:index]:
                raise BadInput(f"Expected each {self.name} once, not {each!r} twice.")
        return values

    def only(self, values: Sequence[Any]) -> Any:
        """The only one of the values.

        Raises:
            BadInput: There is none, or several.
        """
        if len(values) != 1:
            shown = ", ".join(map(str, values)) or "none"
            raise BadInput(
                f"Expected one value of {self.name}, not {shown}: for several, give each a "
                f"[[grid]] table of a sweep file{', or --search N' if self.searched else ''}."
            )
        return values[0]

    def _range(self, values: Sequence[Any]) -> Range | None:
        """The range that they are; None where they are values.

        Raises:
            BadInput: There is more than the range, its ends are no numbers of the axis, or no
                search draws from the axis.
        """
        if self.kind not in (int, float):
            return None
        found = [ranges.parsed(self.name, each) for each in values]
        given = [each for each in found if each is not None]
        if not given:
            return None
        if not self.searched:
            raise BadInput(
                f"Expected {self.name} to be values, not the range {given[0]}: no search draws it."
            )
        if len(found) > 1:
            raise BadInput(f"Expected {self.name} to be one range or values, not both.")
        low, high = (self._checked(end) for end in (given[0].low, given[0].high))
        return Range(low, high, log=given[0].log)

    def _typed(self, value: Any) -> Iterable[Any]:
        """The values in a text; any other value as it is."""
        if not isinstance(value, str) or self.kind is bool:
            return [value]
        if self.kind is str:
            return [value] if re.search("[:=]", value) else value.split(",")
        if self.share and value.endswith("%"):
            return [each / 100 for each in number_lists.parsed(self.name, value[:-1], float)]
        kind = float if self.share and "." in value else self.kind
        assert kind is float or kind is int
        return number_lists.parsed(self.name, value, kind)

    def _checked(self, value: Any) -> Any:
        if self.kind is bool:
            if not isinstance(value, bool):
                raise BadInput(f"Expected {self.name}={value!r} to be true or false.")
            return value
        if self.references and callable(value):
            return user_code.named(value)
        if self.kind is str:
            if self.references and isinstance(value, str) and user_code.is_reference(value):
                return value
            known = plugins.known_name(str(value), self.choices)
            if known not in self.choices:
                remedy = plugins.nearest(str(value), self.choices)
                raise BadInput(f"Unknown {self.name} {value!r}: {remedy}")
            return known
        if self.share and isinstance(value, float) and 0 < value < 1:
            return value
        whole = self.kind is int
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            number = "whole number" if whole else "number"
            raise BadInput(f"Expected {self.name}={value!r} to be a {number}.")
        return value if whole else float(value)


def axis(
    kind: Kind,
    text: str,
    *,
    many: bool = True,
    default: Any = None,
    flags: tuple[str, ...] = (),
    choices: Sequence[str] = (),
    references: bool = False,
    share: bool = False,
    searched: bool = False,
) -> Any:
    """A dataclass field with what `axes` reads.

    Args:
        kind: Of a value.
        text: For `--help`.
        many: Whether it takes several values.
        default: Of the field.
        flags: If not the field's name with dashes, or, where a switch is on by default,
            `--no-` and that.
        choices: Of a name.
        references: Whether a function of the user's may be named, too.
        share: As `Axis.share`.
        searched: As `Axis.searched`.
    """
    metadata = {
        "kind": kind,
        "help": text,
        "many": many,
        "flags": flags,
        "choices": tuple(choices),
        "references": references,
        "share": share,
        "searched": searched,
    }
    return field(default=default, metadata=metadata)


def axes(grid: Any) -> tuple[Axis, ...]:
    """The axes of a dataclass whose fields were made by `axis`, in their order."""
    found = []
    for each in fields(grid):
        flag = each.name.replace("_", "-")
        default_flag = f"--no-{flag}" if each.default is True else f"--{flag}"
        metadata = dict(each.metadata)
        flags = metadata.pop("flags") or (default_flag,)
        found.append(Axis(name=each.name, default=each.default, flags=flags, **metadata))
    return tuple(found)
