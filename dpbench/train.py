"""Trial and data -> one `Epoch` after each epoch."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpbench import accounting, engines, heap, models, sampling
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
    the same trial gives the same numbers on the same processor at the same number of threads. A GPU
    draws other noise from the seed, and adds up in an order that changes.

    Args:
        trial: What to train.
        dataset: On the device to train on, with the trial's number of examples held out.
        physical_batch_size: Most examples in one forward pass; None for whole batches.

    Raises:
        BadInput: There is no such model, or the engine cannot train it.
        TrainingError: The loss is no longer finite, or the sampler did not draw what was asked, so
            that no epsilon would hold.
    """
    model, noise = _initial(trial, dataset)
    built = engines.build(trial, model, noise=noise, physical_batch_size=physical_batch_size)
    engine = engines.at_once(built, noise=noise)
    for (seen,) in _epochs(
        [trial],
        lambda images, labels: engine.step(images, labels)[None],
        lambda: [model],
        dataset,
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
    starts = [_initial(trial, dataset) for trial in trials]
    noise = starts[0][1]
    stack = engines.stacked(
        trials,
        [model for model, _ in starts],
        noise=noise,
        physical_batch_size=physical_batch_size,
    )
    step = engines.at_once(stack, noise=noise).step
    yield from _epochs(trials, step, stack.settle, dataset)


def _seeds(trial: Trial) -> list[np.random.SeedSequence]:
    """Of the initial weights, the sampler and the noise."""
    return np.random.SeedSequence(trial.seed).spawn(3)


def _initial(trial: Trial, dataset: Dataset) -> tuple[nn.Sequential, torch.Generator]:
    """The trial's model before its first step, and its noise."""
    device = str(dataset.train_labels.device)
    weights_seed, _, noise_seed = _seeds(trial)
    seed = int(weights_seed.generate_state(1)[0])
    model = models.build(trial.model, seed=seed, device=device)
    noise = torch.Generator(device).manual_seed(int(noise_seed.generate_state(1)[0]))
    return model, noise


def _epochs(
    trials: Sequence[Trial],
    step: Callable[[Tensor, Tensor], Tensor],
    models_now: Callable[[], Sequence[nn.Module]],
    dataset: Dataset,
) -> Iterator[list[Epoch | TrainingError]]:
    """What each trial has seen after each epoch, or why it cannot go on.

    Args:
        trials: Of one sampling, batch size and seed.
        step: As `Engine.step`, for all of them; their losses [T].
        models_now: The models that the steps have made of them.
        dataset: On the device to train on.
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
        rng=np.random.default_rng(_seeds(first)[1]),
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
            )
            try:
                if disagreement:
                    raise TrainingError(f"no epsilon holds: {disagreement}")
                whole.append(_with_epsilon(_evaluated(counted, model, dataset), trial))
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
        with heap.kept():
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
