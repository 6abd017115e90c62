"""The user's functions that this process knows, by the names that rows have."""

from typing import Generic, Protocol, TypeVar

from dpbench.errors import BadInput


class Named(Protocol):
    """A model, a dataset or a loss of the user's."""

    @property
    def name(self) -> str:
        """As it is shown and stored."""


T = TypeVar("T", bound=Named)


class Known(Generic[T]):
    """What has been found on this machine, or has arrived from another process.

    Args:
        what: Such as `model`, which is also the flag that names one.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._values: dict[str, T] = {}

    def admit(self, value: T) -> None:
        """Makes it known, in place of any of the same name."""
        self._values[value.name] = value

    def named(self, name: str) -> T:
        """The one of that name.

        Raises:
            BadInput: This process knows none.
        """
        if name not in self._values:
            raise BadInput(
                f"The {self._what} {name} is not known: name its file with --{self._what}."
            )
        return self._values[name]

    def clear(self) -> None:
        """Forgets all."""
        self._values.clear()
