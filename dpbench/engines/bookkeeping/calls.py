"""What layers are given and give in one forward pass, and where they stand in autograd's graph."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils import _pytree
from torch.utils.hooks import RemovableHandle

from dpbench.engines.bookkeeping.gradients import Kept
from dpbench.errors import BadInput


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a layer. Its tensors share memory with those of the model.

    Args:
        layer: What was called.
        inputs: The tensors among its arguments, detached.
        structure: Of its arguments, `(args, kwargs)`; tensors are its leaves among others.
        leaves: The arguments' leaves; None where there is a tensor.
        versions: Of the inputs, when they were given.
        edges: Of the outputs that have a gradient; they stay valid if the outputs are changed.
        shapes: Of these outputs.
        places: Of these outputs, among the tensors that it gives.
        statistics: Of the inputs, that GroupNorm has kept: means, and what centred inputs are
            multiplied by. Empty for other layers.
        kept: Memory that the call's gradients may be formed in.
    """

    layer: nn.Module
    inputs: tuple[Tensor, ...]
    structure: _pytree.TreeSpec
    leaves: tuple[Any, ...]
    versions: tuple[int, ...]
    edges: tuple[GradientEdge, ...]
    shapes: tuple[torch.Size, ...]
    places: tuple[int, ...]
    statistics: tuple[Tensor, ...]
    kept: Kept

    def check(self) -> None:
        """Raises BadInput where an input was written over since it was given."""
        if self.versions != tuple(each._version for each in self.inputs):
            raise BadInput(
                f"The bookkeeping engine knows no model that writes over what {self.layer} is "
                "given; write to a copy (inplace=False)."
            )

    def arguments(self, inputs: Iterable[Tensor]) -> tuple[Any, Any]:
        """The call's `(args, kwargs)` with these tensors in place of its own."""
        left = iter(inputs)
        tensors = (isinstance(each, _Hole) for each in self.leaves)
        leaves = [
            next(left) if hole else each for each, hole in zip(self.leaves, tensors, strict=True)
        ]
        args, kwargs = _pytree.tree_unflatten(leaves, self.structure)
        return args, kwargs


class _Hole:
    """Stands where an argument is a tensor."""


_HOLE = _Hole()


class Recorder:
    """Keeps the calls of some layers by forward hooks.

    Args:
        layers: Those whose calls are kept.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.calls: list[Call] = []
        self._kept: list[Kept] = []  # for each call of a pass
        self._listens = False
        self._hooks: list[RemovableHandle] = [
            layer.register_forward_hook(self._keep, with_kwargs=True) for layer in layers
        ]

    def remove(self) -> None:
        """Takes the hooks off."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keeps the calls that are made within, and no others."""
        self.calls = []
        self._listens = True
        try:
            yield
        finally:
            self._listens = False

    def _keep(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """A forward hook."""
        if not self._listens:
            return
        given: tuple[Tensor, ...]
        if not kwargs and len(args) == 1 and isinstance(args[0], Tensor):  # the usual, at less cost
            given, leaves, structure = args, _ONE_HOLE, _ONE_TENSOR
        else:
            everything, structure = _pytree.tree_flatten((args, kwargs))
            given = tuple(each for each in everything if isinstance(each, Tensor))
            leaves = tuple(_HOLE if isinstance(each, Tensor) else each for each in everything)
        outputs = [output] if isinstance(output, Tensor) else _tensors(output)
        places = tuple(place for place, each in enumerate(outputs) if each.requires_grad)
        graphed = [outputs[place] for place in places]
        if len(self._kept) == len(self.calls):
            self._kept.append(Kept())
        self.calls.append(
            Call(
                layer,
                tuple(each.detach() for each in given),  # these share the version counter
                structure,
                leaves,
                tuple(each._version for each in given),
                tuple(map(get_gradient_edge, graphed)),
                tuple(each.shape for each in graphed),
                places,
                _statistics(graphed[0].grad_fn) if graphed else (),
                self._kept[len(self.calls)],
            )
        )


_ONE_HOLE: tuple[Any, ...] = (_HOLE,)
_ONE_TENSOR = _pytree.tree_structure(((torch.empty(0),), {}))


def _statistics(node: Any) -> tuple[Tensor, ...]:
    if node.name() != "NativeGroupNormBackward0":
        return ()
    # detached, or they would keep the graph
    return node._saved_result1.detach(), node._saved_result2.detach()


def _tensors(output: Any) -> list[Tensor]:
    return [each for each in _pytree.tree_leaves(output) if isinstance(each, Tensor)]


Loss = Callable[[Any, Tensor], Tensor]  # (model's output, targets [B]) -> losses [B]
