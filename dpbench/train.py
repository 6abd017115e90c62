"""Trial and data -> one `Epoch` after each epoch."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench import accounting, engines, models, sampling
from dpbench.data import Dataset, normalise
from dpbench.trial import Epoch, Trial

EVALUATION_BATCH = 1_000  # test examples in one forward pass


class TrainingError(Exception):
    """The trial cannot go on; its message is the reason that the row records."""


def train(
    trial: Trial, dataset: Dataset, *, physical_batch_size: int | None = None
) -> Iterator[Epoch]:
    """Trains the trial on the dataset's device; yields what was seen after each epoch.

    Initial weights, sampler and noise draw from three generators spawned from the trial's seed, so
    the same trial gives the same numbers on the same machine at the same number of threads.

    Args:
        trial: What to train.
        dataset: On the device to train on, with the trial's number of examples held out.
        physical_batch_size: Most examples in one forward pass; None for whole batches.

    Raises:
        TrainingError: The loss is no longer finite, or the sampler did not draw what was asked, so
            that no epsilon would hold.
    """
    device = str(dataset.train_labels.device)
    examples = len(dataset.train_labels)
    sample_rate = trial.batch_size / examples
    steps_per_epoch = round(examples / trial.batch_size)

    weights_seed, sampler_seed, noise_seed = np.random.SeedSequence(trial.seed).spawn(3)
    model = models.tutorial_cnn(seed=int(weights_seed.generate_state(1)[0]), device=device)
    engine = engines.build(
        trial,
        model,
        noise=torch.Generator(device).manual_seed(int(noise_seed.generate_state(1)[0])),
        physical_batch_size=physical_batch_size,
    )
    batches = sampling.batches(
        trial.sampling,
        examples=examples,
        batch_size=trial.batch_size,
        rng=np.random.default_rng(sampler_seed),
    )

    tally, train_seconds = sampling.Tally(examples), 0.0
    for number in range(1, trial.epochs + 1):
        drawn_before = tally.drawn
        loss_sum = torch.zeros((), device=device)
        synchronise(device)
        start = time.perf_counter()
        for batch in islice(batches, steps_per_epoch):
            tally.count(batch)
            indices = torch.from_numpy(batch).to(device)
            images = normalise(dataset.train_images[indices])
            loss_sum += engine.step(images, dataset.train_labels[indices])
        synchronise(device)
        train_seconds += time.perf_counter() - start

        disagreement = tally.disagreement(
            trial.sampling, steps=number * steps_per_epoch, epochs=number, rate=sample_rate
        )
        if disagreement:
            raise TrainingError(f"no epsilon holds: {disagreement}")
        test_loss, test_accuracy = evaluate(model, dataset.test_images, dataset.test_labels)
        validation_loss, validation_accuracy = None, None
        if len(dataset.validation_labels):
            validation_loss, validation_accuracy = evaluate(
                model, dataset.validation_images, dataset.validation_labels
            )
        train_loss = float(loss_sum) / max(1, tally.drawn - drawn_before)
        if not (math.isfinite(train_loss) and math.isfinite(test_loss)):
            raise TrainingError(f"diverged: train loss {train_loss}, test loss {test_loss}")
        seen = Epoch(
            epoch=number,
            steps=tally.steps,
            sample_rate=sample_rate,
            examples_seen=tally.drawn,
            train_loss=train_loss,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            train_seconds=train_seconds,
            examples_per_second=tally.drawn / train_seconds,
        )
        yield _with_epsilon(seen, trial)


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


def synchronise(device: str) -> None:
    """Waits until the device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _with_epsilon(seen: Epoch, trial: Trial) -> Epoch:
    """The epoch with what its steps have spent."""
    if not trial.private:
        return seen
    assert seen.sample_rate is not None
    assert seen.steps is not None
    spent = accounting.spent_by(
        trial, sample_rate=seen.sample_rate, steps=seen.steps, epochs=seen.epoch
    )
    return replace(
        seen,
        epsilon=spent.epsilon,
        accountant=spent.accountant,
        epsilon_prv=spent.epsilon_prv,
        epsilon_rdp=spent.epsilon_rdp,
        epsilon_gdp=spent.epsilon_gdp,
        epsilon_if_poisson=spent.epsilon_if_poisson,
        epsilon_note=spent.note,
    )
