"""DP-SGD of several trials at once: one batched model, the same Poisson batches.

A small model leaves a GPU idle, so that a step costs its launches whatever it computes; stacked
trials share them. The arithmetic is that of `bookkeeping`, with a leading axis of trials.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench import clipping
from dpbench.engines import backward
from dpbench.engines.protocol import physical_batches
from dpbench.engines.update import row_norms
from dpbench.errors import BadInput
from dpbench.trial import Trial


class Stacked:
    """T trials of SGD that differ in noise, max_grad_norm, learning rate and momentum alone.

    Args:
        trials: Of one seed, batch size and clipping rule.
        models: One for each, a `Sequential` of Conv2d, Linear, Flatten and layers without
            parameters; `models` are brought up to date by `write_back`.
        noise: Sources of the trials' noise, on the models' device.
        physical_batch_size: Most examples in one pass; None for whole batches.

    Raises:
        BadInput: A model has another kind of layer with parameters, a frozen one or one with hooks.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        models: Sequence[nn.Sequential],
        *,
        noise: Sequence[torch.Generator],
        physical_batch_size: int | None,
    ) -> None:
        self._layers = list(models[0])
        for model in models:
            for layer in model.modules():
                _refuse_changed(layer)
        for layer in self._layers:
            _refuse_unknown(layer)
        self.models = models
        self._noise = noise
        self._batch_size = trials[0].batch_size
        self._physical_batch_size = physical_batch_size
        together = zip(*(model.parameters() for model in models), strict=True)
        self._parameters = [torch.stack([each.detach() for each in same]) for same in together]
        self._velocities = [torch.zeros_like(parameter) for parameter in self._parameters]
        device = self._parameters[0].device

        def per_trial(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)  # [T]

        infinity = float("inf")  # a bound that clips nothing
        self._factors = clipping.spec(trials[0].clipping).factors
        self._bounds = per_trial([trial.max_grad_norm or infinity for trial in trials])
        self._spreads = per_trial(
            [(trial.noise_multiplier or 0.0) * (trial.max_grad_norm or 0.0) for trial in trials]
        )
        self._noisy = [bool(trial.noise_multiplier) for trial in trials]
        self._rates = per_trial([trial.learning_rate for trial in trials])
        self._momenta = per_trial([trial.momentum for trial in trials])

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return self._parameters + self._velocities

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """As `Engine.step`, for every trial.

        Args:
            images: Normalised, float32 [B, 1, 28, 28].
            labels: Classes, int64 [B].

        Returns:
            The sums of the examples' cross entropy before the step, float32 [T].
        """
        sums = [torch.zeros_like(parameter) for parameter in self._parameters]
        total = images.new_zeros(len(self._bounds))
        if len(labels):
            for some, theirs, _ in physical_batches(images, labels, self._physical_batch_size):
                total += self._add_clipped(some, theirs, sums)
        for parameter, velocity, part in zip(self._parameters, self._velocities, sums, strict=True):
            gradient = (part + _wide(self._spreads, part) * self._drawn(part)) / self._batch_size
            velocity.mul_(_wide(self._momenta, part)).add_(gradient)
            parameter.sub_(_wide(self._rates, part) * velocity)
        return total

    def _drawn(self, like: Tensor) -> Tensor:
        """Standard normal numbers [T, ...], each trial's from its own generator, as it would alone.

        Zeros for trials without noise.
        """
        shape, device = like.shape[1:], like.device
        return torch.stack(
            [
                torch.randn(shape, generator=noise, device=device)
                if noisy
                else torch.zeros(shape, device=device)
                for noise, noisy in zip(self._noise, self._noisy, strict=True)
            ]
        )

    def write_back(self) -> Sequence[nn.Sequential]:
        """Writes the weights into the models, which it returns."""
        for index, model in enumerate(self.models):
            for theirs, ours in zip(model.parameters(), self._parameters, strict=True):
                theirs.detach().copy_(ours[index])
        return self.models

    def _add_clipped(self, images: Tensor, labels: Tensor, sums: list[Tensor]) -> Tensor:
        """Adds the examples' clipped gradients to `sums`; the sums of their losses [T]."""
        trials, batch = len(self._bounds), len(labels)
        with torch.enable_grad():
            logits, inputs, outputs = self._forward(images)  # [T, B, 10]
            losses = F.cross_entropy(
                logits.flatten(0, 1), labels.repeat(trials), reduction="none"
            ).view(trials, batch)
            backs = torch.autograd.grad(losses.sum(), outputs)
        known = [layer for layer in self._layers if isinstance(layer, nn.Conv2d | nn.Linear)]
        parts = [
            _conv_part(layer, given.detach(), back, trials)
            if isinstance(layer, nn.Conv2d)
            else (given.detach(), back)
            for layer, given, back in zip(known, inputs, backs, strict=True)
        ]
        norms = []  # of the gradients by each parameter
        for layer, (first, second) in zip(known, parts, strict=True):
            one, two = row_norms(first), row_norms(second)  # [T, B]
            norms.append(one if isinstance(layer, nn.Conv2d) else one * two)
            if layer.bias is not None:
                norms.append(two)
        together = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        factors = self._factors(together, self._bounds[:, None])  # [T, B]
        remaining = iter(sums)
        for layer, (first, second) in zip(known, parts, strict=True):
            weighted = (second * factors[..., None]).transpose(1, 2)  # [T, O, B]
            if isinstance(layer, nn.Conv2d):
                weight = torch.bmm(factors[:, None], first.flatten(2))
            else:
                weight = torch.bmm(weighted, first)
            total = next(remaining)
            total += weight.view(total.shape)
            if layer.bias is not None:
                next(remaining).add_(weighted.sum(2))
        return losses.detach().sum(1)

    def _forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits [T, B, 10], and what each layer with parameters was given and gave.

        Until they are flat, the trials' channels stand side by side: [B, T C, H, W].
        """
        trials = len(self._bounds)
        inputs, outputs = [], []
        parameters = iter(self._parameters)
        x, shared = images, True
        for layer in self._layers:
            if isinstance(layer, nn.Conv2d):
                weight = next(parameters).flatten(0, 1)
                bias = None if layer.bias is None else next(parameters).flatten()
                inputs.append(x)
                if shared:
                    x = _convolved(layer, x, weight, bias)
                else:
                    x = F.conv2d(
                        x, weight, bias, layer.stride, layer.padding, layer.dilation, trials
                    )
                shared = False
                outputs.append(_graphed(x))
            elif isinstance(layer, nn.Flatten):
                x = x.expand(trials, *x.shape) if shared else _apart(x, trials)
                x, shared = x.flatten(2), False  # [T, B, features]
            elif isinstance(layer, nn.Linear):
                inputs.append(x)
                weight = next(parameters).transpose(1, 2)
                x = torch.bmm(x, weight)
                if layer.bias is not None:
                    x = x + next(parameters)[:, None]
                outputs.append(_graphed(x))
            else:
                x = layer(x)
        return x, inputs, outputs


def _refuse_changed(layer: nn.Module) -> None:
    """What is done to one model's layer would not be done to the batched model."""
    if not all(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
        raise BadInput(f"Stacked trials train every layer; this one is frozen: {layer}.")
    if backward.has_hooks(layer):
        raise BadInput(f"Stacked trials know no layer with hooks, like this one: {layer}.")


def _refuse_unknown(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        known = layer.groups == 1 and layer.padding_mode == "zeros"
        known = known and not isinstance(layer.padding, str)
    else:
        known = isinstance(layer, nn.Linear) or not list(layer.parameters())
    if not known:
        raise BadInput(
            f"Stacked trials know Linear and ungrouped, zero-padded Conv2d, not {layer}."
        )


def _graphed(output: Tensor) -> Tensor:
    """The output; the first of a pass is where its graph starts, for no weight needs gradients."""
    return output if output.requires_grad else output.requires_grad_()


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """[T] -> [T, 1, ...], as many axes as the other has."""
    return values.view(-1, *(1 for _ in like.shape[1:]))


def _apart(x: Tensor, trials: int) -> Tensor:
    """[B, T C, H, W] -> [T, B, C, H, W]."""
    return x.view(len(x), trials, -1, *x.shape[2:]).transpose(0, 1)


def _convolved(layer: nn.Conv2d, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of images that all trials share, by each trial's weights.

    As a product with the images' patches, which takes a GPU less time than cuDNN's way
    (bench/ENGINES.md).

    Args:
        layer: With the shapes of one trial.
        images: [B, I, H, W].
        weight: [T O, I, k, k].
        bias: [T O].
    """
    patches = _patches(layer, images)  # [B, h, w, I k k]
    kernels = weight.flatten(1).expand(len(images), -1, -1)
    out: Tensor = torch.bmm(kernels, patches.flatten(1, 2).transpose(1, 2))  # [B, T O, h w]
    if bias is not None:
        out += bias[:, None]
    return out.view(*out.shape[:2], *patches.shape[1:3])


def _conv_part(
    layer: nn.Conv2d, inputs: Tensor, back: Tensor, trials: int
) -> tuple[Tensor, Tensor]:
    """Every trial's and example's gradients: the weight's [T, B, O I k k], the bias' [T, B, O].

    Args:
        layer: With the shapes of one trial.
        inputs: [B, I, H, W] that all trials share, or [B, T I, H, W].
        back: [B, T O, h, w].
        trials: T.
    """
    batch, shared = len(inputs), inputs.shape[1] == layer.in_channels
    images = inputs if shared else inputs.reshape(-1, layer.in_channels, *inputs.shape[2:])
    assert not isinstance(layer.padding, str)
    patches = _patches(layer, images).flatten(1, 2)  # [N, L, I k k]
    flat = back.flatten(2)  # [B, T O, L]
    rows = flat if shared else flat.reshape(batch * trials, layer.out_channels, -1)
    weight = torch.bmm(rows, patches).view(batch, trials, -1)
    bias = flat.sum(2).view(batch, trials, -1)
    return weight.transpose(0, 1), bias.transpose(0, 1)


def _patches(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """What each output sees, [N, I, H, W] -> [N, h, w, I k k], in one copy.

    On a GPU `F.unfold` launches a kernel for each image.
    """
    assert not isinstance(layer.padding, str)
    tall, wide = layer.padding
    windows = F.pad(images, (wide, wide, tall, tall))
    for axis in (0, 1):
        dilation = layer.dilation[axis]
        span = dilation * (layer.kernel_size[axis] - 1) + 1
        windows = windows.unfold(2 + axis, span, layer.stride[axis])[..., ::dilation]
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3)
