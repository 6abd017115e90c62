"""Trains trials and evaluates them after each epoch."""

import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from dpbench import engines, losses, models
from dpbench.datasets import Data
from dpbench.errors import BadInput, TrainingError
from dpbench.observations import Epoch, NoiseDerivation
from dpbench.privacy import sampling
from dpbench.training import evaluation
from dpbench.trial import Trial


def train(trial: Trial, data: Data, *, physical_batch_size: int | None = None) -> Iterator[Epoch]:
    """Trains the trial on the data's device; yields what was seen after each epoch.

    The epsilon that the steps have spent is not computed here, but by `accounting.columns`.

    Initial weights and sampler draw from the trial's seed and the noise from the trial, so the same
    trial gives the same numbers on the same processor at the same number of threads, unless it asks
    for fresh noise. A GPU draws other noise from a seed, and adds up in an order that changes.

    Args:
        trial: What to train.
        data: On the device to train on, with the trial's number of examples held out.
        physical_batch_size: Most examples in one forward pass; None for whole batches.

    Raises:
        BadInput: There is no such model, it cannot take the dataset's inputs, or the engine cannot
            train it.
        TrainingError: The loss is no longer finite, or the sampler did not draw at the trial's
            sample rate, so that no epsilon would hold.
    """
    seeds = _Seeds.of(trial)
    data = models.taken(trial.model, data)
    model, noise = _initial(trial, data, seeds)
    built = engines.build(trial, model, noise=noise, physical_batch_size=physical_batch_size)
    engine = engines.graphed(built, noise=[noise])
    for (seen,) in _epochs(
        [trial],
        lambda inputs, targets: engine.step(inputs, targets)[None],
        lambda: [model],
        data,
        seeds,
    ):
        if isinstance(seen, TrainingError):
            raise seen
        yield seen


def train_stack(
    trials: Sequence[Trial], data: Data, *, physical_batch_size: int | None = None
) -> Iterator[list[Epoch | TrainingError]]:
    """Trains the trials of one `stacks.key` at once, on the same batches; as `train` for each.

    Their weights differ from those of `train` by rounding alone.

    Yields:
        For each trial, in their order, what was seen in the epoch, or why it cannot go on. A trial
        that cannot go on stays in the stack, and yields the same error after later epochs.

    Raises:
        BadInput: The model is not a chain of layers.
    """
    seeds = [_Seeds.of(trial) for trial in trials]
    data = models.taken(trials[0].model, data)
    initial, noise = zip(
        *(_initial(trial, data, each) for trial, each in zip(trials, seeds, strict=True)),
        strict=True,
    )
    chains = [model for model in initial if isinstance(model, nn.Sequential)]
    if len(chains) < len(initial):
        raise BadInput(f"Cannot stack trials of model={trials[0].model}: it is no nn.Sequential.")
    stack = engines.build_stack(
        trials, chains, noise=noise, physical_batch_size=physical_batch_size
    )
    step = engines.graphed(stack, noise=noise).step
    yield from _epochs(trials, step, stack.write_back, data, seeds[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seeds:
    """The seeds of a trial's generators.

    Attributes:
        weights: Of the initial weights.
        sampler: Of the batches.
        noise: Of the noise, 63 bits.
        system: The seed from the system that sampler and noise derive from, where the trial asks
            for fresh noise.
    """

    weights: int
    sampler: np.random.SeedSequence
    noise: int
    system: int | None

    @classmethod
    def of(cls, trial: Trial) -> Self:
        weights, sampler, _ = np.random.SeedSequence(trial.seed).spawn(3)
        noise, system = trial.noise_seed, None
        if trial.noise_source == "system":
            system = secrets.randbits(63)
            sampler, of_noise = np.random.SeedSequence(system).spawn(2)
            noise = int(of_noise.generate_state(1, np.uint64)[0]) >> 1
        return cls(
            weights=int(weights.generate_state(1)[0]), sampler=sampler, noise=noise, system=system
        )

    @property
    def noise_derivation(self) -> NoiseDerivation:
        return "trial" if self.system is None else "system"


def _initial(trial: Trial, data: Data, seeds: _Seeds) -> tuple[nn.Module, torch.Generator]:
    """The trial's model before its first step, and the generator of its noise."""
    model = models.build(trial.model, trial.dataset, seed=seeds.weights, device=data.device)
    return model, torch.Generator(data.device).manual_seed(seeds.noise)


def _epochs(
    trials: Sequence[Trial],
    step: Callable[[Tensor, Tensor], Tensor],
    models_now: Callable[[], Sequence[nn.Module]],
    data: Data,
    seeds: _Seeds,
) -> Iterator[list[Epoch | TrainingError]]:
    """What each trial has seen after each epoch, or why it cannot go on.

    Args:
        trials: Of one sampling, batch size and seed.
        step: As `Engine.step`, for all of them; their losses [T].
        models_now: Returns their models at the weights that the steps have reached.
        data: On the device to train on.
        seeds: Of the first trial; the batches are all trials'.
    """
    first = trials[0]
    device, examples = data.device, data.train_examples
    sample_rate = first.batch_size / examples
    steps_per_epoch = round(examples / first.batch_size)
    batches = sampling.batches(
        first.sampling,
        examples=examples,
        batch_size=first.batch_size,
        rng=np.random.default_rng(seeds.sampler),
    )
    tally, train_seconds = sampling.Tally(examples), 0.0
    stopped: dict[str, TrainingError] = {}
    for number in range(1, first.epochs + 1):
        drawn_before = tally.drawn
        loss_sums = torch.zeros(len(trials), device=device)
        synchronise(device)
        start = time.perf_counter()
        with at_full_speed():
            for batch in islice(batches, steps_per_epoch):
                tally.count(batch)
                indices = _sent(torch.from_numpy(batch), device)
                loss_sums += step(*data.batch(indices))
        synchronise(device)
        train_seconds += time.perf_counter() - start
        disagreement = tally.disagreement(
            first.sampling, steps=number * steps_per_epoch, epochs=number, rate=sample_rate
        )
        whole: list[Epoch | TrainingError] = []
        for trial, model, loss_sum in zip(trials, models_now(), loss_sums, strict=True):
            if trial.trial_id in stopped:
                whole.append(stopped[trial.trial_id])
                continue
            counted = Epoch(
                epoch=number,
                steps=tally.steps,
                sample_rate=sample_rate,
                examples_seen=tally.drawn,
                train_loss=float(loss_sum) / max(1, tally.drawn - drawn_before),
                train_seconds=train_seconds,
                examples_per_second=tally.drawn / train_seconds,
                noise_derivation=seeds.noise_derivation if trial.private else None,
                system_seed=seeds.system,
            )
            try:
                if disagreement:
                    raise TrainingError(f"no epsilon holds: {disagreement}")
                whole.append(_evaluated(trial, counted, model, data))
            except TrainingError as error:
                stopped[trial.trial_id] = error
                whole.append(error)
        yield whole
        if len(stopped) == len(trials):
            return


def _evaluated(trial: Trial, counted: Epoch, model: nn.Module, data: Data) -> Epoch:
    """The epoch with the model's losses and accuracies.

    Raises:
        TrainingError: A loss is not finite.
    """
    loss = None if trial.loss is None else losses.of(trial)
    own = models.spec(trial.model).metrics()
    look = partial(evaluation.evaluate, model, prepare=data.prepared, loss=loss, own=own)
    seen = {"test": look(*data.test)}
    if data.validation is not None:
        seen["validation"] = look(*data.validation)
    test_loss = seen["test"].loss
    assert counted.train_loss is not None
    if not (math.isfinite(counted.train_loss) and math.isfinite(test_loss)):
        raise TrainingError(f"diverged: train loss {counted.train_loss}, test loss {test_loss}")
    columns: dict[str, Any] = {
        f"{part}_{name}": value
        for part, values in seen.items()
        for name, value in asdict(values).items()
    }
    return replace(counted, **columns)


@contextmanager
def at_full_speed() -> Iterator[None]:
    """Flushes denormal floats to zero, in this thread and not in PyTorch's other ones.

    They slow a processor down many times, and the softmax outputs of a trial whose weights explode
    are full of them.
    """
    before = bool(torch.full((), 1e-20) * 1e-20 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _sent(indices: Tensor, device: str) -> Tensor:
    """The indices on the device; a copy to a GPU is asynchronous."""
    if device.startswith("cuda"):
        return indices.pin_memory().to(device, non_blocking=True)
    return indices


def synchronise(device: str) -> None:
    """Waits until the device is idle."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()
