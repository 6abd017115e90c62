"""What is known of layers that private training has trouble with, and what to use in their place.

Only words: whether an engine is right is measured, and a layer that an engine computes rightly is
not refused for its name.
"""

from collections.abc import Callable

from torch import nn

Remedy = str  # an imperative


def described(model: nn.Module, path: str) -> str:
    """The layer as a message names it: `layer 'features.0' (Conv2d)`."""
    name = type(model.get_submodule(path)).__name__
    return f"layer {path!r} ({name})" if path else f"the model ({name})"


def remedy(model: nn.Module, path: str, *, mixes: bool = False) -> Remedy | None:
    """What to do about the layer of that path, or about the innermost layer around it.

    Args:
        model: That the layer is in.
        path: Of the layer; empty for the whole model.
        mixes: Whether the layer mixes examples, and does not merely stop an engine.
    """
    parts = path.split(".")
    for length in range(len(parts), -1, -1):
        layer = model.get_submodule(".".join(parts[:length]))
        for applies, text in (_WHEN_MIXING if mixes else ()) + _ALWAYS:
            if applies(layer):
                return text
    return None


def writes_over(model: nn.Module) -> str | None:
    """The path of the first layer that is told to work in place."""
    paths = (path for path, layer in model.named_modules() if getattr(layer, "inplace", False))
    return next(paths, None)


def is_batch_norm(layer: nn.Module) -> bool:
    """Whether it is one of PyTorch's batch normalisations."""
    return isinstance(layer, nn.modules.batchnorm._BatchNorm)


def _is_time_first(layer: nn.Module) -> bool:
    return getattr(layer, "batch_first", None) is False


def _pads_otherwise(layer: nn.Module) -> bool:
    return getattr(layer, "padding_mode", "zeros") != "zeros"


def _is(*types: type[nn.Module]) -> Callable[[nn.Module], bool]:
    return lambda layer: isinstance(layer, types)


_WHEN_MIXING: tuple[tuple[Callable[[nn.Module], bool], Remedy], ...] = (
    (_is_time_first, "give it batch_first=True, or inputs of [time, batch, ...]"),
)
_ALWAYS: tuple[tuple[Callable[[nn.Module], bool], Remedy], ...] = (
    (is_batch_norm, "use GroupNorm (opacus.validators.ModuleValidator.fix puts it in)"),
    (
        lambda layer: bool(getattr(layer, "track_running_stats", False)),
        "set track_running_stats=False",
    ),
    (_is(nn.LSTM), "use opacus.layers.DPLSTM"),
    (_is(nn.GRU), "use opacus.layers.DPGRU"),
    (_is(nn.RNNBase), "use opacus.layers.DPRNN"),
    (_is(nn.MultiheadAttention), "use opacus.layers.DPMultiheadAttention"),
    (_is(nn.EmbeddingBag), "use nn.Embedding and the mean of its outputs over the tokens"),
    (_is(nn.Embedding), "give it ids of every example, [B, ...], as by ids.repeat(B, 1)"),
    (_pads_otherwise, "pad before it, as by nn.CircularPad2d or nn.ReflectionPad2d"),
    (lambda layer: bool(getattr(layer, "inplace", False)), "set inplace=False"),
)
