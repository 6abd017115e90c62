"""Losses: one number an example, whose gradients engines clip. Cross entropy, or a user's own.

def loss(output: Tensor, target: Tensor) -> Tensor: ...  # [B, ...], [B, ...] -> [B]
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import user_code
from dpbench.errors import BadInput
from dpbench.trial import Trial
from dpbench.user_code import Code

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = "cross-entropy"

Loss = Callable[["Tensor", "Tensor"], "Tensor"]

_known = user_code.Known[Code]("loss")
admit, known = _known.admit, _known.named


def introduce(text: str, folder: Path | None = None) -> Code:
    """Finds the user's loss and makes it known in this process; nothing of it is run.

    Args:
        text: `FILE.py:function` or `package.module:function`.
        folder: That a relative path starts from; None for the current one.

    Raises:
        BadInput: There is no such function, or it does not take an output and a target.
    """
    code = user_code.find(text, folder)
    takes_two = code.any_parameter or len(code.parameters or ()) >= 2
    if code.parameters is not None and not (takes_two and len(code.required) <= 2):
        raise BadInput(
            f"Expected {code.name} to take two arguments: def {code.function}(output, target)."
        )
    admit(code)
    return code


def of(trial: Trial) -> Loss:
    """The examples' losses [B] of outputs and targets.

    Raises:
        BadInput: The loss is not known in this process.
        UserCodeError: Its file raises an error.
    """
    return cross_entropy if trial.loss is None else user_code.function(known(trial.loss))


def total(trial: Trial) -> Loss:
    """As `of`, their sum []."""
    import torch.nn.functional as F

    if trial.loss is None:
        return lambda output, target: F.cross_entropy(output, target, reduction="sum")
    own = of(trial)
    return lambda output, target: own(output, target).sum()


def cross_entropy(output: "Tensor", target: "Tensor") -> "Tensor":
    """[B], nats, of logits [B, classes]; 0 where the target is `NO_LABEL`."""
    import torch.nn.functional as F

    return F.cross_entropy(output, target, reduction="none")
