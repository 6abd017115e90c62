"""Layers whose gradients by example follow from what they are given and the gradient by outputs.

`by_parameter` has the formula of each kind. All others are differentiated as functions of their
inputs and parameters (`functions`).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from dpbench.engines.backward import has_hooks
from dpbench.engines.bookkeeping.calls import Call
from dpbench.engines.bookkeeping.convolutions import Kernels
from dpbench.engines.bookkeeping.gradients import Formed, Gradients, OuterProducts, Rows

ByName = dict[str, Gradients]

_Rule = Callable[[Call, Tensor], ByName]


def refuses(model: nn.Module) -> str | None:
    """Why bookkeeping cannot train the model, as the end of a sentence; None where it can.

    By its layers. How the model uses them is known when it is used.
    """
    reasons = (_refusal(name, layer) for name, layer in model.named_modules())
    return next(filter(None, reasons), None)


def _refusal(name: str, layer: nn.Module) -> str | None:
    at = f"{layer} at {name}" if name else str(layer)
    if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
        return f"bounds what one example does, and {at} mixes examples; use GroupNorm"
    if isinstance(layer, _InstanceNorm) and layer.track_running_stats:
        return f"bounds what one example does, and {at} keeps statistics of all; leave them out"
    if isinstance(layer, nn.RNNBase):
        return f"cannot see into {at}; use opacus.layers.DP{type(layer).__name__}"
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return _table_refusal(at, layer)
    trained = any(each.requires_grad for each in layer.parameters(recurse=False))
    return f"knows no layer with hooks, like {at}" if trained and has_hooks(layer) else None


def _table_refusal(at: str, layer: nn.Embedding | nn.EmbeddingBag) -> str | None:
    if layer.max_norm is not None:
        return f"knows no layer that changes its weights, like {at}; leave max_norm out"
    if layer.scale_grad_by_freq:
        return f"bounds what one example does: leave scale_grad_by_freq out of {at}"
    return f"knows no layer with hooks, like {at}" if has_hooks(layer) else None


def known(layer: nn.Module) -> bool:
    """Whether `by_parameter` has a formula for the layer."""
    if type(layer).forward not in _RULES:
        return False
    if isinstance(layer, nn.EmbeddingBag):
        return layer.mode != "max" and not layer.include_last_offset
    return True


def by_parameter(call: Call, back: Tensor) -> ByName:
    """The examples' gradients by each of a layer's own parameters that is trained.

    Args:
        call: Of a layer that is `known`, on [B, ...].
        back: The gradients of the examples' losses by what it gave, [B, ...].
    """
    return _RULES[type(call.layer).forward](call, back)


def _trained(layer: nn.Module, name: str) -> bool:
    parameter = layer._parameters.get(name)
    return parameter is not None and parameter.requires_grad


def _linear(call: Call, back: Tensor) -> ByName:
    layer = call.layer
    given = call.inputs[0].reshape(len(back), -1, call.inputs[0].shape[-1])  # [B, T, I]
    rows = back.reshape(len(back), -1, back.shape[-1])  # [B, T, O]
    found: ByName = {}
    if _trained(layer, "weight"):
        found["weight"] = OuterProducts(given, rows, call.kept)
    if _trained(layer, "bias"):
        found["bias"] = Formed(rows[:, 0] if rows.shape[1] == 1 else rows.sum(1))
    return found


def _convolution(call: Call, back: Tensor) -> ByName:
    layer, found = call.layer, ByName()
    if _trained(layer, "weight"):
        found["weight"] = Kernels(layer, call.inputs[0], back)  # type: ignore[arg-type]
    if _trained(layer, "bias"):
        found["bias"] = Formed(back.flatten(2).sum(2))
    return found


def _embedding(call: Call, back: Tensor) -> ByName:
    layer = call.layer
    assert isinstance(layer, nn.Embedding)
    return _rows(
        layer,
        call.inputs[0].flatten(1) if call.inputs[0].dim() > 1 else call.inputs[0][:, None],
        back,
    )


def _embedding_bag(call: Call, back: Tensor) -> ByName:
    """[B, T] ids -> [B, d], their sum or mean, maybe by weights [B, T]."""
    layer = call.layer
    assert isinstance(layer, nn.EmbeddingBag)
    ids = call.inputs[0]
    each = back[:, None].expand(-1, ids.shape[1], -1)
    if layer.mode == "mean":
        counted = torch.ones_like(ids) if layer.padding_idx is None else ids != layer.padding_idx
        each = each / counted.sum(1).clamp(min=1)[:, None, None]
    if len(call.inputs) > 1:
        each = each * call.inputs[1][..., None]
    return _rows(layer, ids, each)


def _rows(layer: nn.Embedding | nn.EmbeddingBag, ids: Tensor, back: Tensor) -> ByName:
    rows = back.reshape(*ids.shape, -1)
    if layer.padding_idx is not None:
        rows = rows.masked_fill((ids == layer.padding_idx)[..., None], 0.0)
    return {"weight": Rows(ids.long(), rows, layer.weight)}


def _norm(layer: nn.Module, normalised: Tensor, back: Tensor, axes: tuple[int, ...]) -> ByName:
    """Of a layer that scales normalised inputs and shifts them.

    Args:
        layer: With weight and bias, or one or none of them.
        normalised: [B, ...].
        back: Likewise.
        axes: That a number of the weight is used along.
    """
    found: ByName = {}
    if _trained(layer, "weight"):
        product = back * normalised
        found["weight"] = Formed(product.sum(axes) if axes else product)
    if _trained(layer, "bias"):
        found["bias"] = Formed(back.sum(axes) if axes else back)
    return found


def _group_norm(call: Call, back: Tensor) -> ByName:
    """Of the sums of back inputs and of back, of each channel."""
    layer, (given,) = call.layer, call.inputs
    assert isinstance(layer, nn.GroupNorm)
    examples, channels = given.shape[:2]
    mean, scale = (each.view(examples, -1, 1) for each in call.statistics)  # [B, groups, 1]
    shape = (examples, channels, -1)
    products, sums = (back * given).reshape(shape).sum(2), back.reshape(shape).sum(2)  # [B, C]
    grouped = (examples, layer.num_groups, -1)
    weight = (products.view(grouped) - mean * sums.view(grouped)) * scale
    both = {"weight": weight.view(examples, channels), "bias": sums}
    return {name: Formed(each) for name, each in both.items() if _trained(layer, name)}


def _instance_norm(call: Call, back: Tensor) -> ByName:
    layer = call.layer
    assert isinstance(layer, _InstanceNorm)
    (given,) = call.inputs
    return _norm(layer, F.instance_norm(given, eps=layer.eps), back, tuple(range(2, given.dim())))


def _layer_norm(call: Call, back: Tensor) -> ByName:
    layer = call.layer
    assert isinstance(layer, nn.LayerNorm)
    (given,) = call.inputs
    shape = list(layer.normalized_shape)
    places = tuple(range(1, given.dim() - len(shape)))
    return _norm(layer, F.layer_norm(given, shape, eps=layer.eps), back, places)


def _rms_norm(call: Call, back: Tensor) -> ByName:
    layer = call.layer
    assert isinstance(layer, nn.RMSNorm)
    (given,) = call.inputs
    places = tuple(range(1, given.dim() - len(layer.normalized_shape)))
    shape = list(layer.normalized_shape)
    return _norm(layer, F.rms_norm(given, shape, eps=layer.eps), back, places)


def _prelu(call: Call, back: Tensor) -> ByName:
    layer = call.layer
    assert isinstance(layer, nn.PReLU)
    (given,) = call.inputs
    product = back * given.clamp(max=0)  # [B, C, ...]
    shared = layer.num_parameters == 1
    whole = product.flatten(1).sum(1, keepdim=True) if shared else product
    return {"weight": Formed(whole.flatten(2).sum(2) if whole.dim() > 2 else whole)}


_RULES: dict[Callable[..., object], _Rule] = {
    nn.Linear.forward: _linear,
    nn.Conv1d.forward: _convolution,
    nn.Conv2d.forward: _convolution,
    nn.Conv3d.forward: _convolution,
    nn.ConvTranspose1d.forward: _convolution,
    nn.ConvTranspose2d.forward: _convolution,
    nn.ConvTranspose3d.forward: _convolution,
    nn.Embedding.forward: _embedding,
    nn.EmbeddingBag.forward: _embedding_bag,
    nn.GroupNorm.forward: _group_norm,
    nn.LayerNorm.forward: _layer_norm,
    nn.RMSNorm.forward: _rms_norm,
    nn.PReLU.forward: _prelu,
    _InstanceNorm.forward: _instance_norm,
}
