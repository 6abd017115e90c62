"""The examples that a trial trains on and is evaluated on. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpbench.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    # Inputs [N, ...] and targets [N]. Tensors; a user's function may return arrays, or a map-style
    # Dataset in place of the tuple, which are turned into tensors when they are loaded.
    Examples = Any


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Data:
    """Examples in memory, on one device.

    Attributes:
        train: Inputs [N, ...] of any shape and type, and their targets, int64 [N].
        test: As `train`, [M, ...] and [M].
        validation: Held out of the training set for choosing; None where nothing is.
        prepare: Turns a raw batch of inputs into what the model takes, on their device, such as
            uint8 pixels into normalised float32 ones. None where the model takes them as they are.

    Raises:
        BadInput: A set has more inputs than targets, or fewer.
    """

    train: "Examples"
    test: "Examples"
    validation: "Examples | None" = None
    prepare: "Callable[[Tensor], Tensor] | None" = None

    def __post_init__(self) -> None:
        for name in ("train", "test", "validation"):
            examples = getattr(self, name)
            if not isinstance(examples, tuple | list):
                continue  # a map-style Dataset, or None
            if len(examples) != 2:
                raise BadInput(
                    f"Expected {name} to be (inputs, targets), not {len(examples)} values."
                )
            inputs, targets = examples
            if len(inputs) != len(targets):
                raise BadInput(
                    f"Expected {name} to have as many inputs as targets, not {len(inputs):,} and "
                    f"{len(targets):,}."
                )

    @property
    def train_examples(self) -> int:
        """N, the size of the training set."""
        return len(self.train[1])

    @property
    def device(self) -> str:
        """The device that holds the examples."""
        return str(self.train[1].device)

    def prepared(self, inputs: "Tensor") -> "Tensor":
        """What the model takes of raw inputs."""
        return inputs if self.prepare is None else self.prepare(inputs)

    def batch(self, indices: "Tensor") -> "tuple[Tensor, Tensor]":
        """The training examples of these indices [B]: prepared inputs [B, ...] and targets [B]."""
        inputs, targets = self.train
        # index_select copies whole examples, where indexing copies number by number
        return self.prepared(inputs.index_select(0, indices)), targets[indices]
