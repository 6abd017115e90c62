"""Optimizers. Each is one file that exports `SPEC`; a new one is one new file.

The files are read by the command line, so they import torch inside `build` only.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpbench import plugins
from dpbench.trial import Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Step = Callable[[list[Tensor]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """An optimizer of PyTorch and the learning rates that suit it.

    Attributes:
        name: As in `Trial.optimizer`; the file's name with `-` for `_`.
        build: Parameters and trial -> an optimizer with the trial's learning rate. Every engine
            takes its step with it, Opacus' engines included. All state must start at zero.
        direct: Parameters and trial -> the same step without an optimizer object, a function of the
            gradients, and the state that it changes. Where there is one, dpbench's own engines take
            it: making an optimizer imports PyTorch's compiler, a second for each worker.
        learning_rate: Expected batch size -> the private learning rate where none is asked for.
        baseline_learning_rates: Expected batch size -> the rates at which the non-private baseline
            is tried where none is asked for. A non-private engine that is named takes the last.
        refusal: Trial -> why the optimizer cannot train it, one sentence, or None.
        stackable: Whether `engines.stacked` takes the same steps for many trials at once.
    """

    name: str
    build: "Callable[[Iterable[nn.Parameter], Trial], torch.optim.Optimizer]"
    learning_rate: Callable[[int], float]
    baseline_learning_rates: Callable[[int], Sequence[float]]
    direct: "Callable[[list[nn.Parameter], Trial], tuple[Step, list[Tensor]]] | None" = None
    refusal: Callable[[Trial], str | None] = lambda _: None
    stackable: bool = False


def names() -> tuple[str, ...]:
    """The optimizers' names, in alphabetical order."""
    return plugins.names("optimizers")


def spec(name: str) -> OptimizerSpec:
    """The optimizer of that name.

    Raises:
        BadInput: There is no such optimizer.
    """
    found: OptimizerSpec = plugins.spec("optimizers", name)
    return found
