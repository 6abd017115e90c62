"""The settings that a search draws from: a product of lists and ranges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpbench.search.ranges import Range

Values = tuple[Any, ...] | Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What each dimension of a search may be.

    Attributes:
        dimensions: By name: the axes of a grid in their order, and `model_args.NAME` for each
            argument of a user's model. A list is drawn from evenly.
    """

    dimensions: Mapping[str, Values]

    def __len__(self) -> int:
        """How many dimensions it has."""
        return len(self.dimensions)

    def at(self, point: Sequence[float]) -> dict[str, Any]:
        """The setting at a point of the unit cube: a value of each dimension.

        Args:
            point: As many numbers in [0, 1) as there are dimensions.
        """
        return {
            name: values.at(position)
            if isinstance(values, Range)
            else values[int(position * len(values))]
            for (name, values), position in zip(self.dimensions.items(), point, strict=True)
        }

    def rounded(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """The setting as a search draws it: with the digits that its ranges have."""
        return {
            name: values.rounded(setting[name]) if isinstance(values, Range) else setting[name]
            for name, values in self.dimensions.items()
        }

    def holds(self, setting: Mapping[str, Any]) -> bool:
        """Whether the setting has a value of each dimension, and they are in the space."""
        return setting.keys() == self.dimensions.keys() and all(
            isinstance(setting[name], int | float) and values.low <= setting[name] <= values.high
            if isinstance(values, Range)
            else setting[name] in values
            for name, values in self.dimensions.items()
        )

    def possible(self, name: str) -> tuple[Any, ...] | None:
        """Every value that a dimension may have, rising where it is a range of whole numbers.

        None of a dimension that the space does not have, and of a range of numbers in between.
        """
        values = self.dimensions.get(name)
        if isinstance(values, Range):
            return tuple(range(int(values.low), int(values.high) + 1)) if values.whole else None
        return values
