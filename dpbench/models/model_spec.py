"""What the file of a model says of it. No torch until a model is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpbench.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn

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


def takes_images(input_shape: Shape, _classes: int) -> str | None:
    """`ModelSpec.refusal` of a model that takes images of every size, (channels, height, width)."""
    if len(input_shape) == 3:
        return None
    return f"it takes images, channels x height x width, not inputs of {_sizes(input_shape)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A built-in model.

    Attributes:
        title: For a reader.
        layers: (input_shape, classes) -> the model, float32 [B, *input_shape] -> [B, classes],
            with initial weights from PyTorch's generator. None for a model of tokens. Where there
            are `features`, the model takes them in place of inputs.
        token_layers: (length, vocabulary, classes) -> the model, int64 [B, length] -> [B, classes].
            None for a model of numbers.
        multiply_adds: (input_shape, classes) -> those of one example's forward pass, by which a
            plan estimates how long training takes. None where they are not known.
        features: Prepared inputs [B, ...] -> what the model takes, float32 [B, ...]: a fixed map
            that learns nothing and treats each example by itself, so that it costs no privacy. It
            is computed once and not in each step. None where the model takes the inputs.
        metrics: Returns the model's own metrics: names, and functions (outputs [M, ...], targets
            [M, ...]) -> a number, of all examples of a set.
        refusal: (input_shape, classes) -> why the model cannot take such inputs, as the end of a
            sentence; None if it can. `refuses` is the whole answer.
    """

    title: str
    layers: "Callable[[Shape, int], nn.Module] | None" = None
    token_layers: "Callable[[int, int, int], nn.Module] | None" = None
    multiply_adds: Callable[[Shape, int], int] | None = None
    features: "Callable[[Tensor], Tensor] | None" = None
    metrics: "Callable[[], Mapping[str, Callable[[Tensor, Tensor], float]]]" = dict
    refusal: Callable[[Shape, int], str | None] = takes_any

    def refuses(
        self, input_shape: Shape, classes: int, *, vocabulary: int | None = None
    ) -> str | None:
        """Why the model cannot take such inputs, as the end of a sentence; None if it can.

        Args:
            input_shape: Of one example, without the batch.
            classes: Number of outputs.
            vocabulary: Of token ids, 0 to vocabulary - 1; None for inputs that are numbers.
        """
        if vocabulary is None and self.layers is None:
            return f"it takes token ids, not numbers of {_sizes(input_shape)}"
        if vocabulary is not None and self.token_layers is None:
            return f"it takes numbers, not the token ids of inputs of {_sizes(input_shape)}"
        return self.refusal(input_shape, classes)

    def build(
        self,
        input_shape: Shape,
        classes: int,
        *,
        seed: int,
        device: str = "cpu",
        vocabulary: int | None = None,
    ) -> "nn.Module":
        """The model with its initial weights.

        Args:
            input_shape: Of one example, without the batch.
            classes: Number of outputs.
            seed: Of the initial weights, which are drawn on the CPU.
            device: Where the model is put.
            vocabulary: As in `refuses`.

        Raises:
            BadInput: The model refuses such inputs.
        """
        import torch

        if (reason := self.refuses(input_shape, classes, vocabulary=vocabulary)) is not None:
            raise BadInput(f"Cannot build {self.title}: {reason}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self._drawn(input_shape, classes, vocabulary)
        return model.to(device)

    def _drawn(self, input_shape: Shape, classes: int, vocabulary: int | None) -> "nn.Module":
        if vocabulary is not None:
            assert self.token_layers is not None
            return self.token_layers(input_shape[0], vocabulary, classes)
        assert self.layers is not None
        return self.layers(input_shape, classes)


def _sizes(shape: Shape) -> str:
    return " x ".join(map(str, shape))
