"""The step by the compiled kernel, and the kernel's forward pass for evaluation."""

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpbench import models
from dpbench.engines import backward
from dpbench.engines.noise import Noise
from dpbench.engines.update import Update, noisy_mean
from dpbench.trial import Trial

_log = logging.getLogger(__name__)
_lacking: str | None = None
try:
    from dpbench.engines.fused import kernel
except (ImportError, RuntimeError) as error:  # numba says the latter where it finds no cache
    _lacking = str(error)


def supports(model: nn.Module) -> bool:
    """Whether a step on the model is the kernel's.

    That is the tutorial's CNN or the tanh CNN in float32 on a CPU, with every layer trained, and no
    hook that may change what a layer or a weight is given.
    """
    return (
        computes(model)
        and all(parameter.requires_grad for parameter in model.parameters())
        and not any(map(backward.has_hooks, model.modules()))
    )


def computes(model: nn.Module) -> bool:
    """Whether the model's logits are the kernel's: as `supports`, trained or not.

    Hooks of Opacus and of our engines are passed over: they change no output.
    """
    return (
        _network(model) is not None
        and all(
            parameter.device.type == "cpu" and parameter.dtype == torch.float32
            for parameter in model.parameters()
        )
        and not any(map(_may_change_outputs, model.modules()))
    )


def _network(model: nn.Module) -> "kernel.Network | None":
    """The kernel's network of the same layers; None where there is none."""
    if _lacking is not None or type(model) is not nn.Sequential:
        return None
    layers = tuple(map(_structure, model))
    return next((net for net, known in _networks() if layers == known), None)


@cache
def _networks() -> "list[tuple[kernel.Network, tuple[object, ...]]]":
    named: dict[str, kernel.Network] = {
        "tutorial-cnn": kernel.TutorialCnn(),
        "tanh-cnn": kernel.TanhCnn(),
    }
    return [
        (net, tuple(map(_structure, models.build(name, "mnist", seed=0, device="cpu").children())))
        for name, net in named.items()
    ]


def _structure(layer: nn.Module) -> object:
    """Equal for layers that compute the same of their weights, and have weights of one shape."""
    return (
        type(layer),
        [(name, getattr(layer, name)) for name in getattr(layer, "__constants__", ())],
        [(name, each.shape) for name, each in layer.named_parameters()],
    )


def _may_change_outputs(layer: nn.Module) -> bool:
    if "forward" in vars(layer):
        return True
    hooks = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
    ours = ("opacus.", "dpbench.")
    return not all(str(getattr(hook, "__module__", "")).startswith(ours) for hook in hooks)


def compile_kernel() -> None:
    """Compiles the kernel, or loads it where this machine has compiled it before.

    For the tutorial's CNN; for the other network an engine does when it is built. Where there is no
    kernel, that is said, and other engines take its place.
    """
    if _lacking is not None:
        _log.warning("No compiled kernel (%s): bookkeeping takes the place of fused", _lacking)
        return
    _compile(kernel.TutorialCnn())


@cache
def _compile(net: "kernel.Network") -> None:
    pixels, labels = np.zeros((0, 784), np.float32), np.zeros(0, np.int64)
    weights, activations, gradients, sums = _workspace(net)
    kernel.clipped_sum(net, pixels, labels, 1.0, weights, activations, gradients, sums)
    kernel.plain_sum(net, pixels, labels, weights, activations, gradients, sums)
    kernel.fill_logits(net, pixels, weights, activations, np.zeros((0, 10), np.float32))


class Fused:
    """Forward, backward, norm and clipped sum of one example at a time, all in cache.

    Args:
        trial: Learning rate and momentum, and where it is private, the privacy parameters.
        model: One that `supports` takes; trained in place.
        noise: Source of the noise.
    """

    def __init__(self, trial: Trial, model: nn.Module, *, noise: torch.Generator) -> None:
        net = _network(model)
        assert net is not None
        _compile(net)
        self._net = net
        self._trial = trial
        self._parameters = list(model.parameters())
        self._noise = Noise(self._parameters, trial, noise)
        self._update = Update(self._parameters, trial)
        self._workspace = _workspace(net)
        weights, _, _, self._sums = self._workspace
        self._to_weights, self._from_sums = _views(weights, self._sums)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        _copy(self._parameters, self._to_weights)
        for each in self._sums:
            each.fill(0)
        pixels = images.reshape(len(labels), 784).numpy()
        if self._trial.max_grad_norm is None:
            losses = kernel.plain_sum(self._net, pixels, labels.numpy(), *self._workspace)
        else:
            losses = kernel.clipped_sum(
                self._net, pixels, labels.numpy(), self._trial.max_grad_norm, *self._workspace
            )
        self._update.step(noisy_mean(self._from_sums, self._noise, self._trial.batch_size))
        return torch.tensor(losses, dtype=images.dtype)


class Forward:
    """The model's logits by the same compiled pass, at the weights that it has now.

    Args:
        model: One that `computes` takes.
    """

    def __init__(self, model: nn.Module) -> None:
        net = _network(model)
        assert net is not None
        _compile(net)
        self._net = net
        self._weights, self._activations, _, sums = _workspace(net)
        to_weights, _ = _views(self._weights, sums)
        _copy(list(model.parameters()), to_weights)

    def __call__(self, images: Tensor) -> Tensor:
        """float32 [B, 1, 28, 28] -> [B, 10]."""
        logits = np.empty((len(images), 10), np.float32)
        pixels = images.reshape(len(images), 784).numpy()
        kernel.fill_logits(self._net, pixels, self._weights, self._activations, logits)
        return torch.from_numpy(logits)


def _copy(parameters: Sequence[nn.Parameter], to_weights: Sequence[Sequence[Tensor]]) -> None:
    for parameter, targets in zip(parameters, to_weights, strict=True):
        for target in targets:
            target.copy_(parameter.detach().view(target.shape))


def _workspace(
    net: "kernel.Network",
) -> "tuple[kernel.Weights, kernel.Activations, kernel.Gradients, kernel.Sums]":
    """What the kernel reads and fills, zero; 500 kB, reused by every example."""

    def zeros(*sizes: int) -> Iterator[Any]:
        return (np.zeros(size, np.float32) for size in sizes)

    image, c1, p1 = (2 * net.side + 6) ** 2, net.side**2 * 16, (net.side - 1) ** 2 * 16
    c2, p2 = 5 * 5 * 32, 4 * 4 * 32
    return (
        kernel.Weights(*zeros(1024, 16, 8192, 8192, 32, 16_384, 32, 320, 16)),
        kernel.Activations(*zeros(image, c1, p1, c2, p2, 32, 16)),
        kernel.Gradients(*zeros(1024, 16, c1, p1, 8192, 32, c2, p2, 32, 16)),
        kernel.Sums(*zeros(1024, 16, 8192, 32, 16_384, 32, 320, 16)),
    )


def _views(
    weights: "kernel.Weights", sums: "kernel.Sums"
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """(for each parameter the kernel's copies of it, the sums), as views of the parameters' shapes.

    The kernel's layouts have channels innermost; a view of theirs with the axes in PyTorch's order
    makes a copy to or from them one call.
    """

    def views(of: Any) -> list[Tensor]:
        w1, b1, w2, b2, w3, b3, w4, b4 = (
            torch.from_numpy(getattr(of, name)) for name in kernel.Sums._fields
        )
        return [
            w1.view(8, 8, 1, 16).permute(3, 2, 0, 1),
            b1,
            w2.view(4, 4, 16, 32).permute(3, 2, 0, 1),
            b2,
            w3.view(32, 4, 4, 32).permute(0, 3, 1, 2),  # [out, channel, row, column]
            b3,
            w4.view(10, 32),
            b4[:10],
        ]

    to_weights = [[view] for view in views(weights)]
    to_weights[2].append(torch.from_numpy(weights.w2t).view(32, 4, 4, 16).permute(0, 3, 1, 2))
    return to_weights, views(sums)
