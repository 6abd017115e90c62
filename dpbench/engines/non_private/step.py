"""The plain step, by autograd, with the tricks of private steps: layout, chunks, sparse tables."""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from dpbench import losses
from dpbench.engines import backward
from dpbench.engines.chunks import examples_at_a_time, in_evaluation
from dpbench.engines.protocol import physical_batches
from dpbench.engines.update import Update, add_up
from dpbench.trial import Trial

HELD_BYTES = 6 * 2**20  # of activations at a time, on a CPU


class NonPrivate:
    """The step without clipping and noise; batches and divisor are those of private engines."""

    def __init__(self, trial: Trial, model: nn.Module, *, physical_batch_size: int | None) -> None:
        self._model, self._loss = model, losses.total(trial)
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._tables = _Tables(model)
        self._update = Update(self._parameters, trial)
        self._batch_size = trial.batch_size
        self._physical_batch_size = physical_batch_size
        self._looked = False  # at the first batch

    @property
    def state(self) -> list[Tensor]:
        """See `Capturable.state`."""
        return self._update.state

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `Engine.step`."""
        total, sums = self._parameters[0].new_zeros(()), list[Tensor]()
        if not len(labels):  # a model need not take it
            self._update.step([torch.zeros_like(each) for each in self._parameters])
            return total
        if not self._looked:
            self._looked = True
            self._look(images, labels)
        for part_images, part_labels, _ in physical_batches(
            images, labels, self._physical_batch_size
        ):
            self._tables.calls.clear()
            loss = self._loss(self._model(part_images), part_labels)
            sums = add_up(sums, self._gradients(loss))
            total += loss.detach()
        self._update.step(torch._foreach_div(sums, self._batch_size))
        return total

    def _look(self, images: Tensor, labels: Tensor) -> None:
        """Learns from an example how much the model holds, and where it uses its tables."""
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), in_evaluation(self._model):
            self._tables.look(self._loss(self._model(images[:1]), labels[:1]))
        if images.device.type == "cpu":
            most = examples_at_a_time(self._model, images, held_bytes=HELD_BYTES)
            self._physical_batch_size = min(most, self._physical_batch_size or most)

    def _gradients(self, loss: Tensor) -> list[Tensor]:
        """Of the parameters; tables' by `index_add`, three times as fast as autograd's own."""
        weights, calls = self._tables.weights, self._tables.calls
        dense = [each for each in self._parameters if each not in weights]
        ends: list[Tensor | GradientEdge] = [*dense, *(edge for _, _, edge in calls)]
        found = torch.autograd.grad(loss, ends, materialize_grads=True)  # type: ignore[arg-type]
        gradients: dict[Tensor, Tensor] = dict(zip(dense, found, strict=False))
        for weight in weights:
            gradients[weight] = torch.zeros_like(weight)
        for (weight, ids, _), back in zip(calls, found[len(dense) :], strict=True):
            gradients[weight].index_add_(0, ids.flatten(), back.reshape(-1, back.shape[-1]))
        return [gradients[each] for each in self._parameters]


class _Tables:
    """Embeddings whose weights nothing else uses, and their calls in a pass."""

    def __init__(self, model: nn.Module) -> None:
        self.weights: set[Tensor] = set()
        self.calls: list[tuple[Tensor, Tensor, GradientEdge]] = []
        for layer in model.modules():
            if type(layer) is nn.Embedding and layer.weight.requires_grad and _plain(layer):
                self.weights.add(layer.weight)
                layer.register_forward_hook(self._keep)

    def look(self, loss: Tensor) -> None:
        """Leaves out the weights that are used elsewhere, too, as the graph of a loss tells."""
        _, uses = backward.graph(loss)
        called = Counter(id(weight) for weight, _, _ in self.calls)
        self.weights = {
            each for each in self.weights if len(uses.get(id(each), ())) == called[id(each)]
        }

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        if output.requires_grad and weight in self.weights:
            self.calls.append((weight, inputs[0], get_gradient_edge(output)))


def _plain(layer: nn.Embedding) -> bool:
    """Whether the gradient is a sum of rows."""
    changed = layer.max_norm is not None or layer.scale_grad_by_freq
    return not changed and layer.padding_idx is None and not backward.has_hooks(layer)
