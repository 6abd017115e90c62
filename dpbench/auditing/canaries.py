"""Canaries: examples that can be detected in the noisy sums of a run, and their detector.

The auditor may choose the examples, the initial weights and the learning rate, since DP holds for
all of them. A good canary has a gradient far longer than the clipping norm, in every layer, and
hardly correlated with any other canary's. Noise images have such gradients where few units of each
hidden layer are active for each of them; the biases are set accordingly.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpbench.losses import Loss, cross_entropy

ACTIVE = (0.05, 0.1, 0.3)  # fractions of canaries for which a unit of each hidden layer is active
CHUNK = 64  # canaries whose gradients are computed at once
LEAST_NOISE = 0.01  # over the clipping norm: below, rounding of the weights would be read as noise

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Canaries:
    """Examples in the form that engines train on.

    Attributes:
        images: Prepared inputs [m, ...], such as float32 [m, 1, 28, 28]; not grey levels, which
            engines do not require.
        labels: Int64 [m], each a class that the initial model does not predict; with a loss of the
            user's, targets [m, ...] of the dataset.
    """

    images: Tensor
    labels: Tensor


def craft(model: nn.Sequential, *, count: int, scale: float, seed: int) -> Canaries:
    """Canaries for the model, whose hidden layers' biases are set so that few units are active.

    Args:
        model: tutorial-cnn; its biases are changed in place.
        count: m.
        scale: Standard deviation of the pixels, to which the gradients' norms are proportional.
        seed: Of the pixels and labels.
    """
    rng = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    images = (scale * torch.randn((count, 1, 28, 28), generator=rng)).to(device)
    others = torch.randint(1, 10, (count,), generator=rng).to(device)
    active = list(ACTIVE)
    values = images
    with torch.no_grad():
        for layer in model:
            if active and isinstance(layer, nn.Conv2d | nn.Linear):
                assert layer.bias is not None
                layer.bias.zero_()
                units = layer(values).transpose(0, 1).flatten(1)  # [units, m x positions]
                rank = max(1, round(units.shape[1] * (1 - active.pop(0))))
                layer.bias.copy_(-units.kthvalue(rank, dim=1).values)
            values = layer(values)
        labels = (values.argmax(dim=1) + others) % 10
    return Canaries(images=images, labels=labels)


def clipped_gradients(
    model: nn.Module, canaries: Canaries, max_grad_norm: float, loss: Loss = cross_entropy
) -> Tensor:
    """Each canary's clipped gradient, in units of max_grad_norm, [m, parameters].

    Computed by `torch.func` on the plain model, without any code of the audited engine. Frozen
    parameters are left out.
    """
    weights = {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }

    def loss_of_one(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        outputs = torch.func.functional_call(model, weights, (image[None],))
        return loss(outputs, label[None]).sum()

    of_one = torch.func.grad(loss_of_one)
    of_each = torch.func.vmap(of_one, in_dims=(None, 0, 0), randomness="different")
    chunks = []
    for images, labels in zip(
        canaries.images.split(CHUNK), canaries.labels.split(CHUNK), strict=True
    ):
        try:
            parts = of_each(weights, images, labels)
        except RuntimeError:  # of a model with layers that vmap does not know
            each = [of_one(weights, *one) for one in zip(images, labels, strict=True)]
            parts = {name: torch.stack([one[name] for one in each]) for name in weights}
        flat = torch.cat([part.flatten(1) for part in parts.values()], dim=1)
        norms = flat.norm(dim=1, keepdim=True)
        chunks.append(flat / torch.clamp(norms, min=max_grad_norm))
    return torch.cat(chunks)


class Filter:
    """Estimates which canaries are in a noisy sum: linear, with the least mean squared error.

    A step's sum is G^T z + noise, with z the canaries' memberships of its batch and G their clipped
    gradients. The prior mean of a membership is p = sample_rate / 2, for a canary is
    in the dataset with probability 1/2. The estimate is z = p + W (G sum - K p) with K = G G^T and
    W = (K + noise^2 / p (1 - p))^-1, divided by the gain of a membership, which makes it unbiased.

    Args:
        gradients: As `clipped_gradients` gives them, [m, parameters], m less than parameters.
        sample_rate: Of the Poisson sampling, in (0, 1].
    """

    def __init__(self, gradients: Tensor, *, sample_rate: float) -> None:
        self._gradients = gradients
        self._sample_rate = sample_rate
        gram = (gradients @ gradients.T).double().cpu()
        # by torch and not by numpy, whose threads are not those that the caller has set
        values, vectors = (part.numpy() for part in torch.linalg.eigh(gram))
        self._gram, self._vectors = gram.numpy(), vectors
        self._values = np.maximum(values, 1e-6 * values[-1])

    @property
    def dimensions(self) -> int:
        """A lower bound on the dimension of the space that `residual` projects onto."""
        canaries, parameters = self._gradients.shape
        return parameters - canaries

    def residual(self, noisy_sum: Tensor) -> Tensor:
        """The sum's projection onto the complement of the canaries' gradients, [parameters].

        Rounding can only lengthen it, since the exact projection is the shortest such vector.

        Args:
            noisy_sum: Recovered from two iterates, in units of the clipping norm, [parameters].
        """
        seen = (self._gradients @ noisy_sum).double().cpu().numpy()
        weights = self._vectors @ ((self._vectors.T @ seen) / self._values)
        return noisy_sum - torch.from_numpy(weights).to(noisy_sum) @ self._gradients

    def scores(self, noisy_sum: Tensor, *, noise: float) -> _Array:
        """For each canary the log likelihood ratio of the sum: canary in over canary out, [m].

        The logarithm of 1 - q + q N(x; 1, v) / N(x; 0, v), with q the sample rate, x the estimate
        of the membership and v its variance.

        Args:
            noisy_sum: As above.
            noise: Variance of its noise, in each parameter.
        """
        seen = (self._gradients @ noisy_sum).double().cpu().numpy()
        noise = max(noise, LEAST_NOISE**2)
        prior = self._sample_rate / 2
        spread = prior * (1 - prior)
        inverse = 1 / (self._values + noise / spread)
        squared = self._vectors**2
        # the diagonals of W K and of (W K)^2, without either product
        own = np.maximum(squared @ (inverse * self._values), 1e-12)
        from_others = spread * (squared @ (inverse * self._values) ** 2 - own**2)
        from_noise = noise * (squared @ (inverse**2 * self._values))
        surprise = seen - self._gram.sum(axis=1) * prior
        estimates = prior + self._vectors @ (inverse * (self._vectors.T @ surprise)) / own
        ratios: _Array = (2 * estimates - 1) * own**2 / (2 * (from_others + from_noise))
        if self._sample_rate < 1:
            rate = self._sample_rate
            ratios = np.logaddexp(np.log1p(-rate), np.log(rate) + ratios)
        return ratios
