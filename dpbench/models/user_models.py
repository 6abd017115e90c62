"""The user's own model: a function that returns an `nn.Module`, with its arguments.

def make(width: int = 32) -> nn.Module: ...
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench import plugins, user_code
from dpbench.errors import BadInput
from dpbench.models.model_spec import ModelSpec, Shape
from dpbench.user_code import Code

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class UserModel:
    """A model of the user's, as it travels to workers.

    Attributes:
        code: Of the function that makes it.
        arguments: Of the function, as a JSON object with sorted keys; None for its defaults.
    """

    code: Code
    arguments: str | None

    @property
    def name(self) -> str:
        """As it is shown and stored, such as `mine.py:make(width=16)`."""
        if self.arguments is None:
            return self.code.name
        given = json.loads(self.arguments).items()
        return f"{self.code.name}({', '.join(f'{name}={_said(value)}' for name, value in given)})"

    @property
    def fields(self) -> dict[str, Any]:
        """Those of a trial that say which model it trains."""
        return {"model": self.name, "model_args": self.arguments, "model_hash": self.code.hash}

    @property
    def spec(self) -> ModelSpec:
        """As of a built-in model."""
        return ModelSpec(
            title=self.name,
            layers=self._layers,
            token_layers=self._token_layers,
            metrics=self._metrics,
        )

    def _metrics(self) -> "Mapping[str, Callable[[Tensor, Tensor], float]]":
        """The dict `metrics` of the function's file; empty where there is none.

        Raises:
            BadInput: It is no dict of functions.
        """
        found = user_code.constant(self.code, "metrics")
        if found is None:
            return {}
        if not isinstance(found, Mapping) or not all(map(callable, found.values())):
            raise BadInput(
                f"Expected metrics beside {self.name} to be a dict of functions (outputs, "
                f"targets) -> float, not {found!r}."
            )
        return {
            str(name): partial(user_code.calling, self.code, metric)
            for name, metric in found.items()
        }

    def _token_layers(self, _length: int, _vocabulary: int, _classes: int) -> "nn.Module":
        return self._made()

    def _layers(self, _input_shape: Shape, _classes: int) -> "nn.Module":
        return self._made()

    def _made(self) -> "nn.Module":
        """Calls the user's function.

        Raises:
            UserCodeError: It raises an error.
            BadInput: It returns no module.
        """
        from torch import nn

        model = user_code.call(self.code, **json.loads(self.arguments or "{}"))
        if not isinstance(model, nn.Module):
            raise BadInput(
                f"Expected {self.name} to return an nn.Module, not {type(model).__name__}."
            )
        if not any(each.requires_grad for each in model.parameters()):
            raise BadInput(f"Expected {self.name} to have parameters to train, and it has none.")
        return model


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_known = user_code.Known[UserModel]("model")
admit, known = _known.admit, _known.named


def introduce(text: str, arguments: Mapping[str, Any], folder: Path | None = None) -> UserModel:
    """Finds the user's model and makes it known in this process; nothing of it is run.

    Args:
        text: `FILE.py:function` or `package.module:function`.
        arguments: Of the function, by name.
        folder: That a relative path starts from; None for the current one.

    Raises:
        BadInput: There is no such function, or it takes no argument of such a name.
    """
    code = user_code.find(text, folder)
    for name in arguments:
        if code.parameters is not None and not (name in code.parameters or code.any_parameter):
            remedy = plugins.nearest(name, code.parameters) if code.parameters else "it takes none."
            raise BadInput(f"No argument {name} of {code.name}: {remedy}")
    missing = [name for name in code.required if name not in arguments]
    if missing:
        raise BadInput(
            f"Expected an argument {missing[0]} of {code.name}: give --model-args "
            f"{missing[0]}=VALUE, or the function a default."
        )
    written = json.dumps(dict(arguments), sort_keys=True) if arguments else None
    model = UserModel(code=code, arguments=written)
    admit(model)
    return model
