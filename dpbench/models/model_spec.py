"""What the file of a model says of it. No torch until a model is built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpbench.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]  # of one example, without the batch


def takes_any(_input_shape: Shape, _classes: int) -> None:
    """`ModelSpec.refusal` of a model that takes inputs of every shape."""


def takes_only(*shapes: Shape) -> Callable[[Shape, int], str | None]:
    """`ModelSpec.refusal` of a model that takes inputs of these shapes alone."""

    def refusal(input_shape: Shape, _classes: int) -> str | None:
        if input_shape in shapes:
            return None
        return f"it takes inputs of {' or '.join(map(_sizes, shapes))}, not {_sizes(input_shape)}"

    return refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A built-in model.

    Attributes:
        title: For a reader.
        layers: (input_shape, classes) -> the model, float32 [B, *input_shape] -> [B, classes],
            with initial weights from PyTorch's generator.
        multiply_adds: (input_shape, classes) -> those of one example's forward pass, by which a
            plan estimates how long training takes. None where they are not known.
        refusal: (input_shape, classes) -> why the model cannot take such inputs; None if it can.
    """

    title: str
    layers: "Callable[[Shape, int], nn.Module]"
    multiply_adds: Callable[[Shape, int], int] | None = None
    refusal: Callable[[Shape, int], str | None] = takes_any

    def build(
        self, input_shape: Shape, classes: int, *, seed: int, device: str = "cpu"
    ) -> "nn.Module":
        """The model with its initial weights.

        Args:
            input_shape: Of one example, without the batch.
            classes: Number of outputs.
            seed: Of the initial weights, which are drawn on the CPU.
            device: Where the model is put.

        Raises:
            BadInput: The model refuses such inputs.
        """
        import torch

        if (reason := self.refusal(input_shape, classes)) is not None:
            raise BadInput(f"Cannot build {self.title}: {reason}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.layers(input_shape, classes)
        return model.to(device)


def _sizes(shape: Shape) -> str:
    return " x ".join(map(str, shape))
