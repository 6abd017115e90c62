"""Which calls of which layers give a model's gradients by example, found by looking at the model.

Autograd's graph tells where each parameter is used. A parameter that is used in calls of its own
layer alone, where `layers` has a formula, is found by that; any other belongs to the smallest
module that is called on examples and uses all of it, as a function of its inputs (`functions`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from dpbench.engines import backward
from dpbench.engines.bookkeeping import layers
from dpbench.engines.bookkeeping.calls import Loss
from dpbench.errors import BadInput

PROBES = (2, 3)  # examples: what has as many rows in both passes has a row for each


@dataclass(slots=True, kw_only=True, eq=False)
class Unit:
    """A layer whose calls give gradients.

    Attributes:
        layer: Is called on examples.
        led: For each of its calls in a pass, which inputs are the examples', [B, ...].
        by_formula: Of its own parameters those that `layers` has a formula for: name and place
            among those that the model trains.
        as_function: Of its or its children's parameters those that it is differentiated by as a
            function of them; likewise.
    """

    layer: nn.Module
    led: Sequence[Sequence[bool]]
    by_formula: dict[str, int] = field(default_factory=dict)
    as_function: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Call:
    """A call, and the sequence numbers of the graph's nodes that it has made.

    Its inputs' sizes and nodes are those that they had when they were given.
    """

    layer: nn.Module
    begin: int
    inputs: list[torch.Size]
    origins: set[Any]
    end: int = 0
    outputs: list[torch.Size] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """A forward pass.

    Attributes:
        calls: In the order in which they began.
        uses: For each parameter's id, the sequence numbers of the nodes that use it.
        nodes: The graph's nodes but those of leaves.
    """

    calls: list[_Call]
    uses: dict[int, list[int]]
    nodes: list[Any]


def units(model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> list[Unit]:
    """The units that give every trained parameter's gradients, each once.

    Args:
        model: As it is trained.
        loss: Of its outputs.
        inputs: Some examples, [B, ...], one at least.
        targets: Theirs.

    Raises:
        BadInput: A parameter is used in no call of a module on examples.
    """
    some = [torch.arange(count, device=targets.device) % len(targets) for count in PROBES]
    few, more = (_look(model, loss, inputs[each], targets[each]) for each in some)
    if [each.layer for each in few.calls] != [each.layer for each in more.calls]:
        raise BadInput(
            "The bookkeeping engine knows no model whose calls of layers depend on the batch."
        )
    seen: dict[nn.Module, _Calls] = {}
    for one, other in zip(few.calls, more.calls, strict=True):
        seen.setdefault(other.layer, _Calls()).add(one, other, more)
    found: dict[nn.Module, Unit] = {}
    trained = [each for each in model.named_parameters() if each[1].requires_grad]
    for place, (name, parameter) in enumerate(trained):
        uses = more.uses.get(id(parameter))
        if uses is None:  # its gradient is 0
            continue
        owners = [
            layer
            for layer in model.modules()
            if any(each is parameter for each in layer._parameters.values())
        ]
        by_formula = [layer for layer in owners if layer in seen and seen[layer].formula(layer)]
        if _cover([seen[layer] for layer in by_formula], uses):
            for layer in by_formula:
                unit = found.setdefault(layer, Unit(layer=layer, led=seen[layer].led))
                unit.by_formula[_name(layer, parameter)] = place
            continue
        around = _smallest_around(parameter, uses, seen)
        if around is None:
            raise BadInput(f"The bookkeeping engine finds no module that uses {name} on examples.")
        unit = found.setdefault(around, Unit(layer=around, led=seen[around].led))
        unit.as_function[_name(around, parameter)] = place
    return list(found.values())


class _Calls:
    """All calls of a layer in a pass."""

    def __init__(self) -> None:
        self.intervals: list[tuple[int, int]] = []
        self.led: list[list[bool]] = []
        self._on_examples = True
        self._all_led = True
        self._origins: list[tuple[_Call, _Pass]] = []

    def add(self, few: _Call, more: _Call, within: _Pass) -> None:
        """Takes in a call, as it was in the probes' two passes."""
        self.intervals.append((more.begin, more.end))
        self._origins.append((more, within))
        pairs = list(zip(few.inputs, more.inputs, strict=False))
        self.led.append([_led(*pair) for pair in pairs])
        self._all_led &= bool(pairs) and all(self.led[-1])
        outputs = list(zip(few.outputs, more.outputs, strict=False))
        self._on_examples &= (
            any(self.led[-1])
            and all(_led(*pair) or pair[0] == pair[1] for pair in pairs)
            and bool(outputs)
            and all(_led(*pair) for pair in outputs)
        )

    def formula(self, layer: nn.Module) -> bool:
        """Whether gradients follow from a formula."""
        return self._on_examples and self._all_led and layers.known(layer)

    def function(self) -> bool:
        """Whether the outputs are a function of the inputs and of parameters."""
        return self._on_examples and all(
            not _reads_more(call, within) for call, within in self._origins
        )


def _led(few: torch.Size, more: torch.Size) -> bool:
    """Whether sizes in the probe's passes are those of a tensor with a row for each example."""
    return bool(few) and (few[0], more[0]) == PROBES and few[1:] == more[1:]


def _cover(calls: Iterable[_Calls], uses: Iterable[int]) -> bool:
    intervals = [interval for each in calls for interval in each.intervals]
    return all(any(begin <= use < end for begin, end in intervals) for use in uses)


def _smallest_around(
    parameter: nn.Parameter, uses: Iterable[int], seen: dict[nn.Module, _Calls]
) -> nn.Module | None:
    around = [layer for layer in seen if any(each is parameter for each in layer.parameters())]
    for layer in sorted(around, key=lambda each: len(list(each.modules()))):
        if _cover([seen[layer]], uses) and seen[layer].function():
            return layer
    return None


def _name(layer: nn.Module, parameter: nn.Parameter) -> str:
    return next(name for name, each in layer.named_parameters() if each is parameter)


def _reads_more(call: _Call, within: _Pass) -> bool:
    """Whether the call computes with results that it is not given."""
    return any(
        origin is not None
        and not hasattr(origin, "variable")
        and origin._sequence_nr() < call.begin
        and origin not in call.origins
        for node in within.nodes
        if call.begin <= node._sequence_nr() < call.end
        for origin, _ in node.next_functions
    )


def _look(model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> _Pass:
    """Passes the examples through the model, which is as before but for its hooks' order."""
    calls: list[_Call] = []
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), _recorded(model, calls):
        losses = loss(model(inputs), targets)
    nodes, uses = backward.graph(losses.sum())
    return _Pass(calls, uses, nodes)


@contextmanager
def _recorded(model: nn.Module, calls: list[_Call]) -> Iterator[None]:
    """Adds the calls of all modules to the list."""
    open_calls: list[_Call] = []

    def before(layer: nn.Module, args: Any, kwargs: Any) -> None:
        given = _tensors((args, kwargs))
        call = _Call(
            layer, _now(), [each.shape for each in given], {each.grad_fn for each in given}
        )
        calls.append(call)
        open_calls.append(call)

    def after(_layer: nn.Module, _args: Any, output: Any) -> None:
        call = open_calls.pop()
        call.end = _now()
        call.outputs = [each.shape for each in _tensors(output) if each.requires_grad]

    hooks = []
    for layer in model.modules():
        hooks.append(layer.register_forward_pre_hook(before, with_kwargs=True))
        hooks.append(layer.register_forward_hook(after))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in _pytree.tree_leaves(values) if isinstance(each, Tensor)]


def _now() -> int:
    """The sequence number of a node that is made now; those of later nodes are larger."""
    node: Any = torch.ones((), requires_grad=True).clone().grad_fn
    return int(node._sequence_nr())
