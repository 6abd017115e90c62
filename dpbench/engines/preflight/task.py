"""A model, a few examples and a loss: what a preflight is run on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from dpbench.losses import Loss

SEED = 0  # of what the preflight draws, and of random layers
MOVED = 0.1  # of a weight's size: how far weights are moved from their initial values
MOVED_FROM_ZERO = 0.02

# Probabilities of random layers, by the names that PyTorch, Opacus and timm give them
_PROBABILITIES = ("p", "dropout", "drop_prob")
_MAY_DROP = (nn.RNNBase, nn.MultiheadAttention)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What engines are checked on.

    Attributes:
        make: Returns the model, a new one each time, on the device of the inputs.
        inputs: Prepared, [B, ...]; no two of them alike where the data allow it.
        targets: [B, ...].
        loss: One number an example.
        state: The weights and buffers of every model that `model` returns.
    """

    make: Callable[[], nn.Module]
    inputs: Tensor
    targets: Tensor
    loss: Loss
    state: dict[str, Tensor]

    @classmethod
    def of(cls, make: Callable[[], nn.Module], inputs: Tensor, targets: Tensor, loss: Loss) -> Self:
        """The task at weights near the initial ones.

        Not at those themselves: a layer that starts at zero stops the gradients of others, and
        what an engine makes of them would not be seen.
        """
        model = make()
        draws = torch.Generator().manual_seed(SEED)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    size = MOVED * weight.square().mean().sqrt() + MOVED_FROM_ZERO
                    weight.add_(size * torch.randn(weight.shape, generator=draws).to(weight))
        state = {name: each.detach().clone() for name, each in model.state_dict().items()}
        return cls(make=make, inputs=inputs, targets=targets, loss=loss, state=state)

    def __len__(self) -> int:
        return len(self.targets)

    def model(self) -> nn.Module:
        """A new model, whose dropout drops nothing.

        Engines draw masks in orders of their own, so that no two could be compared. Dropout has no
        weights and sees each example alone, so that it changes nothing of what is checked.
        """
        model = self.make()
        self.restore(model)
        for layer in model.modules():
            if isinstance(layer, _MAY_DROP) or "drop" in type(layer).__name__.lower():
                for name in _PROBABILITIES:
                    if isinstance(getattr(layer, name, None), float):
                        setattr(layer, name, 0.0)
        return model

    def restore(self, model: nn.Module) -> None:
        """Sets the weights and buffers of one of the models back."""
        with torch.no_grad():
            model.load_state_dict(self.state)


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Random layers draw the same each time, and the caller's generators stay as they are."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(SEED)
        yield
