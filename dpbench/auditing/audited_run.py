"""One audited run: guesses of the canaries' coins, and residuals that hold noise alone."""

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from dpbench import engines, losses, models
from dpbench.auditing import canaries, drawn_canaries, one_run
from dpbench.auditing.claim import STEP_LENGTH, Claim
from dpbench.auditing.residuals import Residuals
from dpbench.privacy.sampling import poisson_batches

GUESSED = 0.25  # of the canaries: where simulated runs of a claim near 4 gave the best bounds
PIXEL_SCALE = 100.0  # of canaries over the clipping norm: their gradients are some 50 times as long
FILTER_STEPS = 8  # that share the gradients of the first of them: the weights move that little
SHARED_BELOW = 1_000  # of batch_size / noise_multiplier: above, the noise does not hide the move
NO_CLIP = 1e6  # times the clipping norm: no gradient is that long
KEPT_STEPS = 2_000  # of all runs, whose residuals are kept: 0.2 GB


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRun:
    """What the auditor learns from one run."""

    guesses: one_run.Guesses
    residuals: Residuals


def audited_run(claim: Claim, seed: np.random.SeedSequence) -> AuditedRun:
    """Trains on canaries, each in with probability 1/2, and guesses from the iterates which.

    Batches are Poisson samples of all canaries, of which those that are out are dropped, so that
    the sample rate does not depend on the coins. The guesses are made from the canaries and the
    iterates alone, without the coins.
    """
    pixels, coins, sampler, weights, noise = seed.spawn(5)
    coin = np.random.default_rng(coins).random(claim.canaries) < 0.5
    model = _built(claim, seed=_number(weights))
    planted = _planted(claim, model, seed=_number(pixels))
    loss = losses.of(claim.trial)
    stepper = _Stepper(claim, model, noise=_number(noise))
    batches = poisson_batches(
        examples=claim.canaries,
        sample_rate=claim.sample_rate,
        rng=np.random.default_rng(sampler),
    )
    scores = np.zeros(claim.canaries)
    residuals: list[Tensor] = []
    squares = 0.0
    together = FILTER_STEPS if claim.batch_size <= SHARED_BELOW * claim.noise_multiplier else 1
    for first in range(0, claim.steps, together):
        found = canaries.Filter(
            canaries.clipped_gradients(model, planted, claim.max_grad_norm, loss),
            sample_rate=claim.sample_rate,
        )
        sums, variances = [], []
        for batch in islice(batches, min(together, claim.steps - first)):
            chosen = torch.from_numpy(batch[coin[batch]]).to(claim.device)
            before = _flat(model)
            stepper.step(planted.images[chosen], planted.labels[chosen])
            # (sum + noise) / max_grad_norm, out of w - learning_rate (sum + noise) / batch_size
            sums.append((before - _flat(model)) * (claim.batch_size / STEP_LENGTH))
            residual = found.residual(sums[-1])
            square = float(residual.double().square().sum())
            squares += square
            variances.append(max(square / found.dimensions, canaries.LEAST_NOISE**2))
            if len(residuals) < max(1, KEPT_STEPS // claim.runs):
                residuals.append(residual.cpu())
        if claim.sample_rate == 1:  # the members of each step are the same
            sums, variances = _averaged(sums, variances)
        for noisy_sum, variance in zip(sums, variances, strict=True):
            scores += found.scores(noisy_sum, noise=variance)
    return AuditedRun(
        guesses=one_run.guess(np.nan_to_num(scores), coin, GUESSED),
        residuals=Residuals(
            vectors=torch.stack(residuals).numpy(),
            squares=squares,
            dimensions=found.dimensions,
            steps=claim.steps,
        ),
    )


def _built(claim: Claim, *, seed: int) -> nn.Module:
    task = claim.task
    model, dataset = ("tutorial-cnn", "mnist") if task is None else (task.model, task.dataset)
    return models.build(model, dataset, seed=seed, device=claim.device)


def _planted(claim: Claim, model: nn.Module, *, seed: int) -> canaries.Canaries:
    if claim.task is not None:
        return drawn_canaries.drawn(
            model,
            claim,
            seed=seed,
        )
    assert isinstance(model, nn.Sequential)
    scale = PIXEL_SCALE * claim.max_grad_norm
    return canaries.craft(model, count=claim.canaries, scale=scale, seed=seed)


def _averaged(sums: list[Tensor], variances: list[float]) -> tuple[list[Tensor], list[float]]:
    """The mean of the sums that has the least noise, and the variance of that."""
    precision = sum(1 / noise for noise in variances)
    mean = torch.stack([each / noise for each, noise in zip(sums, variances, strict=True)]).sum(0)
    return [mean / precision], [1 / precision]


class _Stepper:
    """Takes the engine's steps on a second model, and copies the weights to the auditor's model.

    Engines register hooks on the model that they train; the auditor's gradients are computed on a
    model without them. Defects are planted by configuration, so that any engine can have one: with
    `noise-once-per-epoch` a noiseless engine takes all but the first step of each epoch, and with
    `noise-repeated` the noise generator is seeded anew before every step.
    """

    def __init__(self, claim: Claim, model: nn.Module, *, noise: int) -> None:
        self._model = model
        self._taken = 0
        trial = claim.trial
        match claim.broken:
            case "noise-0.8":
                trials = [replace(trial, noise_multiplier=0.8 * claim.noise_multiplier)]
            case "noise-halved":
                trials = [replace(trial, noise_multiplier=claim.noise_multiplier / 2)]
            case "no-clipping":  # with as much noise as before
                trials = [
                    replace(
                        trial,
                        noise_multiplier=claim.noise_multiplier / NO_CLIP,
                        max_grad_norm=claim.max_grad_norm * NO_CLIP,
                    )
                ]
            case "noise-once-per-epoch":
                quiet = replace(trial, noise_multiplier=0.0)
                trials = [trial, *[quiet] * (claim.steps_per_epoch - 1)]
            case "noise-repeated" | None:
                trials = [trial]
        self._again = noise if claim.broken == "noise-repeated" else None
        arms = {}
        for each in trials:
            if each not in arms:
                trained = _built(claim, seed=0)
                generator = torch.Generator(claim.device).manual_seed(noise)
                arms[each] = trained, engines.build(each, trained, noise=generator), generator
        self._cycle = [arms[each] for each in trials]

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Takes the next step of the epoch; the auditor's model has the new weights afterwards."""
        trained, engine, generator = self._cycle[self._taken % len(self._cycle)]
        if self._again is not None:
            generator.manual_seed(self._again)
        _copy(self._model, trained)
        engine.step(images, labels)
        _copy(trained, self._model)
        self._taken += 1


def _copy(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for from_, to in zip(source.parameters(), target.parameters(), strict=True):
            to.copy_(from_)


def _flat(model: nn.Module) -> Tensor:
    """A copy of all trained parameters as one vector, in whatever layout they are."""
    trained = [each for each in model.parameters() if each.requires_grad]
    return torch.cat([parameter.detach().reshape(-1) for parameter in trained])


def _number(seed: np.random.SeedSequence) -> int:
    return int(seed.generate_state(1)[0])
