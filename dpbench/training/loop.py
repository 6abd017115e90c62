"""Trial and data -> one `Epoch` after each epoch."""

import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench import engines, models
from dpbench.datasets.loading import Dataset, normalise
from dpbench.errors import TrainingError
from dpbench.privacy import sampling
from dpbench.training import malloc
from dpbench.trial import Epoch, NoiseDerivation, Trial

EVALUATION_BATCH = 1_000  # test examples in one forward pass


def train(
    trial: Trial, dataset: Dataset, *, physical_batch_size: int | None = None
) -> Iterator[Epoch]:
    """Trains the trial on the dataset's device; yields what was seen after each epoch.

    What the steps have spent is not computed here: `accounting.columns` says it of a row.

    Initial weights and sampler draw from the trial's seed and the noise from the trial, so the same
    trial gives the same numbers on the same processor at the same number of threads, unless it asks
    for fresh noise. A GPU draws other noise from a seed, and adds up in an order that changes.

    Args:
        trial: What to train.
        dataset: On the device to train on, with the trial's number of examples held out.
        physical_batch_size: Most examples in one forward pass; None for whole batches.

    Raises:
        BadInput: There is no such model, or the engine cannot train it.
        TrainingError: The loss is no longer finite, or the sampler did not draw what was asked, so
            that no epsilon would hold.
    """
    seeds = _Seeds.of(trial)
    model, noise = _initial(trial, dataset, seeds)
    built = engines.build(trial, model, noise=noise, physical_batch_size=physical_batch_size)
    engine = engines.graphed(built, noise=[noise])
    for (seen,) in _epochs(
        [trial],
        lambda images, labels: engine.step(images, labels)[None],
        lambda: [model],
        dataset,
        seeds,
    ):
        if isinstance(seen, TrainingError):
            raise seen
        yield seen


def train_stack(
    trials: Sequence[Trial], dataset: Dataset, *, physical_batch_size: int | None = None
) -> Iterator[list[Epoch | TrainingError]]:
    """Trains the trials of one `stacks.key` at once, on the same batches; as `train` for each.

    Their weights differ from those of `train` by rounding alone.

    Yields:
        For each trial, in their order, what was seen in the epoch, or why it cannot go on: then it
        is carried along, and the same again in later epochs.
    """
    seeds = [_Seeds.of(trial) for trial in trials]
    models_of, noise = zip(
        *(_initial(trial, dataset, each) for trial, each in zip(trials, seeds, strict=True)),
        strict=True,
    )
    stack = engines.build_stack(
        trials, models_of, noise=noise, physical_batch_size=physical_batch_size
    )
    step = engines.graphed(stack, noise=noise).step
    yield from _epochs(trials, step, stack.settle, dataset, seeds[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seeds:
    """What a trial's generators start from.

    Attributes:
        weights: Of the initial weights.
        sampler: Of the batches.
        noise: Of the noise, 63 bits.
        system: That sampler and noise come from, of a trial that asks for fresh noise.
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


def _initial(
    trial: Trial, dataset: Dataset, seeds: _Seeds
) -> tuple[nn.Sequential, torch.Generator]:
    """The trial's model before its first step, and its noise."""
    device = str(dataset.train_labels.device)
    model = models.build(trial.model, seed=seeds.weights, device=device)
    return model, torch.Generator(device).manual_seed(seeds.noise)


def _epochs(
    trials: Sequence[Trial],
    step: Callable[[Tensor, Tensor], Tensor],
    models_now: Callable[[], Sequence[nn.Module]],
    dataset: Dataset,
    seeds: _Seeds,
) -> Iterator[list[Epoch | TrainingError]]:
    """What each trial has seen after each epoch, or why it cannot go on.

    Args:
        trials: Of one sampling, batch size and seed.
        step: As `Engine.step`, for all of them; their losses [T].
        models_now: The models that the steps have made of them.
        dataset: On the device to train on.
        seeds: Of the first trial; the batches are all trials'.
    """
    first = trials[0]
    device = str(dataset.train_labels.device)
    examples = len(dataset.train_labels)
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
                # copies whole images, where indexing copies number by number
                images = normalise(dataset.train_images.index_select(0, indices))
                loss_sums += step(images, dataset.train_labels[indices])
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
                whole.append(_evaluated(counted, model, dataset))
            except TrainingError as error:
                stopped[trial.trial_id] = error
                whole.append(error)
        yield whole
        if len(stopped) == len(trials):
            return


def _evaluated(counted: Epoch, model: nn.Module, dataset: Dataset) -> Epoch:
    """The epoch with the model's losses and accuracies.

    Raises:
        TrainingError: A loss is not finite.
    """
    test_loss, test_accuracy = evaluate(model, dataset.test_images, dataset.test_labels)
    validation_loss, validation_accuracy = None, None
    if len(dataset.validation_labels):
        validation_loss, validation_accuracy = evaluate(
            model, dataset.validation_images, dataset.validation_labels
        )
    assert counted.train_loss is not None
    if not (math.isfinite(counted.train_loss) and math.isfinite(test_loss)):
        raise TrainingError(f"diverged: train loss {counted.train_loss}, test loss {test_loss}")
    return replace(
        counted,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        validation_loss=validation_loss,
        validation_accuracy=validation_accuracy,
    )


def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """(mean cross entropy in nats, accuracy as a fraction) over all of the images.

    Args:
        model: float32 [B, 1, 28, 28] -> [B, 10].
        images: Grey levels, uint8 [M, 1, 28, 28].
        labels: Classes, int64 [M].
    """
    loss, correct = torch.zeros((2, 1), dtype=torch.float64, device=labels.device)
    logits_of = engines.forward(model)
    with torch.no_grad():
        for part, part_labels in zip(
            images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
        ):
            logits = logits_of(normalise(part))  # [B, 10]
            loss += F.cross_entropy(logits, part_labels, reduction="sum")
            correct += (logits.argmax(dim=1) == part_labels).sum()
    return float(loss) / len(labels), float(correct) / len(labels)


@contextmanager
def at_full_speed() -> Iterator[None]:
    """Has this process take steps without delay meanwhile.

    It keeps the memory that they free (`heap`). And this thread, not PyTorch's other ones, takes
    floats below 1e-38 for 0: a processor takes many times as long for each of them, and the softmax
    outputs of a trial whose weights explode under its noise are full of them.
    """
    before = bool(torch.full((), 1e-20) * 1e-20 == 0)
    torch.set_flush_denormal(True)
    try:
        with malloc.kept():
            yield
    finally:
        torch.set_flush_denormal(before)


def _sent(indices: Tensor, device: str) -> Tensor:
    """The indices on the device; on a GPU without waiting for what it does meanwhile."""
    if device.startswith("cuda"):
        return indices.pin_memory().to(device, non_blocking=True)
    return indices


def synchronise(device: str) -> None:
    """Waits until the device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
