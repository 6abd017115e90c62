"""A grid: its axes, each a list of values or a range, and how grids are merged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from dpbench import clipping, datasets, engines, losses, models, optimizers, user_code
from dpbench.errors import BadInput
from dpbench.execution.axes import Axis, axes, axis
from dpbench.search import ranges
from dpbench.search.ranges import Range
from dpbench.trial import SAMPLINGS, Sampling

AUTO = "auto"  # the fastest engine that can train a trial


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Grid:
    """The axes of one grid. Its trials are the product of all axes.

    An axis takes one value or several, such as `noise_multiplier=[1.0, 2.0]` or `seed=range(3)`.
    A search draws from them, and from ranges such as `learning_rate=Range(0.1, 16, log=True)`.
    Where neither noise_multiplier nor target_epsilon is given, and for max_grad_norm, batch_size,
    epochs and model, None takes those of the dataset's default sweep. A learning_rate of None takes
    the optimizer's own for each batch size. An engine `auto` is the fastest that can train a trial.

    `baseline` adds the non-private trials of each batch size, optimizer, momentum, seed and
    sampling: at the optimizer's rates for a baseline by the fastest engine, or at the learning
    rates that are given. Where a non-private engine is among `engine`, it adds `non-private` alone,
    at the same learning rates.

    Raises:
        BadInput: An axis is empty, repeats a value or has one of the wrong type, max_grad_norm is
            infinite, or noise_multiplier and target_epsilon are both given.
    """

    noise_multiplier: Sequence[float] | Range | None = axis(
        float, "noise over clipping norm (default: the dataset's)", searched=True
    )
    target_epsilon: Sequence[float] | None = axis(
        float, "instead: solve for the noise (default: none)"
    )
    max_grad_norm: Sequence[float] | Range | None = axis(
        float, "of an example's gradient (default: the dataset's)", searched=True
    )
    batch_size: Sequence[int] | Range | None = axis(
        int, "expected, of Poisson batches (default: the dataset's)", searched=True
    )
    learning_rate: Sequence[float] | Range | None = axis(
        float, "default: grows with the batch size", searched=True
    )
    momentum: Sequence[float] | Range = axis(
        float, "of SGD (default: 0)", default=(0.0,), searched=True
    )
    seed: Sequence[int] = axis(int, "default: 0", default=(0,), flags=("--seeds", "--seed"))
    model: Sequence[str] | None = axis(
        str,
        f"what is trained, of {', '.join(models.names())}, or a function of yours, FILE.py:make or "
        "package.module:make (default: the dataset's)",
        choices=models.names(),
        references=True,
        searched=True,
    )
    model_args: Mapping[str, Sequence[Any] | Range] | None = axis(
        dict,
        "arguments of your functions, each with one or more values: width=16,32 depth=2 "
        "(default: none)",
        searched=True,
    )
    optimizer: Sequence[str] = axis(
        str,
        f"what takes the steps, of {', '.join(optimizers.names())} (default: sgd)",
        default=("sgd",),
        choices=optimizers.names(),
        searched=True,
    )
    clipping: Sequence[str] = axis(
        str,
        "how an example's gradient is scaled to the clipping norm, of "
        f"{', '.join(clipping.names())} (default: flat)",
        default=("flat",),
        choices=clipping.names(),
        searched=True,
    )
    engine: Sequence[str] = axis(
        str,
        f"how steps are computed, of {', '.join(engines.names())} (default: auto, the fastest "
        "that can train a trial)",
        default=(AUTO,),
        choices=(AUTO, *engines.names()),
    )
    sampling: Sequence[Sampling] = axis(
        str,
        f"how batches are drawn, of {' and '.join(SAMPLINGS)} (default: poisson)",
        default=("poisson",),
        choices=SAMPLINGS,
        searched=True,
    )
    epochs: int | Sequence[int] | Range | None = axis(
        int, "of each trial (default: the dataset's)", many=False, searched=True
    )
    loss: str = axis(
        str,
        f"what is trained on: {losses.DEFAULT}, or a function of yours, FILE.py:loss, of outputs "
        f"and targets, one number an example (default: {losses.DEFAULT})",
        many=False,
        default=losses.DEFAULT,
        choices=(losses.DEFAULT,),
        references=True,
    )
    delta: float = axis(float, "of (epsilon, delta)-DP (default: 1e-5)", many=False, default=1e-5)
    validation_examples: float = axis(
        int,
        "held out to choose by: 5000, 10% or 0.1 (default: 0)",
        many=False,
        default=0,
        flags=("--validation", "--validation-examples"),
        share=True,
    )
    baseline: bool = axis(
        bool, "leave out the non-private trials of each batch size", many=False, default=True
    )
    clip_only: bool = axis(
        bool,
        "add each private trial without noise: what clipping alone costs",
        many=False,
        default=False,
    )
    fresh_noise: bool = axis(
        bool,
        "seed the sampler and the noise of private trials by the system, not by the trial; the "
        "seeds are recorded, and a release needs more than that (see README)",
        many=False,
        default=False,
    )

    def __post_init__(self) -> None:
        for each in axes(Grid):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                object.__setattr__(self, each.name, each.parsed(value))
        if self.noise_multiplier is not None and self.target_epsilon is not None:
            raise BadInput(
                "Expected noise_multiplier or target_epsilon, not both: the noise is solved for "
                "where an epsilon is the target."
            )
        if self.validation_examples < 0:
            raise BadInput(f"Expected validation_examples={self.validation_examples} >= 0.")
        if not isinstance(self.max_grad_norm, Range) and math.inf in (self.max_grad_norm or ()):
            raise BadInput(
                "Expected max_grad_norm=inf to be finite: without clipping no noise hides an "
                "example. Choose a norm that no gradient exceeds, such as 1e6, with "
                "noise_multiplier 0, or train without privacy (engine non-private)."
            )

    def __repr__(self) -> str:
        values = [(each.name, each.default, getattr(self, each.name)) for each in fields(self)]
        if self.model is not None:  # no folder of this machine
            models = tuple(map(user_code.shown, self.model))
            values = [("model", None, models) if v[0] == "model" else v for v in values]
        values = [
            (name, default, user_code.shown(value) if name == "loss" else value)
            for name, default, value in values
        ]
        given = [f"{name}={_brief(value)}" for name, default, value in values if value != default]
        return f"Grid({', '.join(given)})"

    def values(self, name: str) -> tuple[Any, ...]:
        """The values of an axis; none where it has none.

        Raises:
            BadInput: It is a range.
        """
        value = getattr(self, name)
        return ranges.listed(name, value if isinstance(value, tuple | Range | None) else (value,))

    def with_defaults(self, dataset: str) -> "Grid":
        """The grid with the values of the dataset's default sweep where it has none.

        A share of the training examples that is held out becomes their number.
        """
        missing = {
            name: value for name, value in defaults(dataset).items() if getattr(self, name) is None
        }
        if self.target_epsilon is not None:
            missing.pop("noise_multiplier", None)
        held_out = self.validation_examples
        if 0 < held_out < 1:
            examples = held_out * datasets.train_examples(dataset)
            missing["validation_examples"] = max(1, round(examples))
        return replace(self, **missing)


def _brief(value: Any) -> str:
    """The value as Python; a tuple as a list, or as its only value."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_brief(each)}' for key, each in value.items())}}}"
    if not isinstance(value, tuple):
        return repr(value)
    return repr(value[0] if len(value) == 1 else list(value))


AXES: Mapping[str, Axis] = {each.name: each for each in axes(Grid)}


def defaults(dataset: str) -> Mapping[str, Any]:
    """The axes of the default sweep on a dataset."""
    return datasets.spec(dataset).sweep


def grid(*layers: Mapping[str, Any]) -> Grid:
    """The grid whose every axis is the one of the first layer that names it.

    noise_multiplier and target_epsilon are two names of one axis: either hides the other in the
    layers below. A single value stands for a list of one.

    Raises:
        BadInput: A value is of the wrong type, or the grid is not valid.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        new = {key: value for key, value in layer.items() if key not in merged}
        if "noise_multiplier" in merged or "target_epsilon" in merged:
            new = {
                key: value
                for key, value in new.items()
                if key not in ("noise_multiplier", "target_epsilon")
            }
        merged |= new
    return Grid(**merged)
