"""The Gaussian noise of a step: PyTorch's numbers, on a CPU by compiled loops."""

import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from dpbench.trial import Trial

MANY = 2**14  # numbers a step from which the compiled loops pay for their import

# What a generator on a CPU gives as its state (at::CPUGeneratorImpl)
_STATE = np.dtype(
    [
        *[("seed", "u8"), ("left", "i4"), ("seeded", "i4"), ("next", "u8"), ("words", "u8", 624)],
        *[("x", "f8"), ("held", "f8"), ("rho", "f8"), ("holds", "i4"), ("more", "V12")],
    ]
)


class Noise:
    """A step's noise, a tensor for each parameter, in memory that is kept.

    Of standard deviation noise_multiplier x max_grad_norm. It is drawn parameter by parameter, each
    contiguous, as Opacus draws it, so that one generator gives every engine the same.

    Args:
        parameters: Of their shapes, types and device.
        trial: Holds the privacy parameters; the noise is 0 where it has none.
        generator: On their device.
    """

    def __init__(
        self, parameters: Sequence[Tensor], trial: Trial, generator: torch.Generator
    ) -> None:
        self.spread = (trial.noise_multiplier or 0.0) * (trial.max_grad_norm or 0.0)
        self._generator = generator
        self._sizes = np.array([each.numel() for each in parameters])
        self._normals: ModuleType | None = None
        if all(each.is_cpu and each.dtype == torch.float32 for each in parameters):
            self._flat = torch.zeros(int(self._sizes.sum()))
            parts = self._flat.split(self._sizes.tolist())
            self.drawn = [
                part.view(each.shape) for part, each in zip(parts, parameters, strict=True)
            ]
            many = self.spread > 0 and len(self._flat) >= MANY
            if many and generator.get_state().numel() == _STATE.itemsize:
                self._normals = _compiled()
            if self._normals is not None:
                self._memory = self._normals.memory()
        else:
            self.drawn = [
                torch.zeros(each.shape, dtype=each.dtype, device=each.device) for each in parameters
            ]

    def draw(self) -> None:
        """Puts the next step's into `drawn`."""
        if not self.spread:
            torch._foreach_zero_(self.drawn)
        elif self._normals is None:
            for each in self.drawn:
                each.normal_(0.0, self.spread, generator=self._generator)
        else:
            self._draw_compiled(self._normals)

    def _draw_compiled(self, normals: ModuleType) -> None:
        state = self._generator.get_state()
        (fields,) = state.numpy().view(_STATE)
        words = self._memory.words
        words[:] = fields["words"]
        used = len(words) + 1 - fields["left"]  # a generator that none is drawn of has 1 left
        held = fields["held"] if fields["holds"] else math.nan
        used, held = normals.fill(
            self._flat.numpy(), self._sizes, self.spread, (used, held), self._memory
        )
        fields["words"], fields["next"], fields["left"] = words, used, len(words) + 1 - used
        fields["holds"] = not math.isnan(held)
        fields["held"] = held if fields["holds"] else 0.0
        self._generator.set_state(state)


@cache
def _compiled() -> ModuleType | None:
    """`normals`; None where numba is missing, or has nowhere to keep what it compiles."""
    try:
        from dpbench.engines.noise import normals
    except (ImportError, RuntimeError):
        return None
    return normals
