"""Every engine owes the same: clipping, noise of the right spread, and the others' trajectory."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from conftest import make_trial
from torch import Tensor, nn

from dpbench import data, engines, models
from dpbench.trial import ENGINES, NON_PRIVATE, EngineName, Trial

PRIVATE = [engine for engine in get_args(EngineName) if engine != NON_PRIVATE]
EVERY_PRIVATE = pytest.mark.parametrize("engine", PRIVATE)


def build(trial: Trial, physical_batch_size: int | None = None) -> tuple[nn.Module, engines.Engine]:
    model = models.tutorial_cnn(seed=1, device="cpu")
    noise = torch.Generator().manual_seed(2)
    return model, engines.build(trial, model, noise=noise, physical_batch_size=physical_batch_size)


def weights(model: nn.Module) -> Tensor:
    """All parameters as one float64 vector, in whatever layout they are."""
    flat = [parameter.detach().reshape(-1).double() for parameter in model.parameters()]
    return torch.cat(flat)


def gradient(trial: Trial, images: Tensor, labels: Tensor) -> Tensor:
    """The sum that one step of plain SGD has divided by batch_size and taken."""
    model, engine = build(trial)
    before = weights(model)
    engine.step(images, labels)
    return (before - weights(model)) * trial.batch_size / trial.learning_rate


def batch(digits: data.Dataset, size: int, start: int = 0) -> tuple[Tensor, Tensor]:
    part = slice(start, start + size)
    return data.normalise(digits.train_images[part]), digits.train_labels[part]


def test_the_model_is_the_tutorials() -> None:
    model = models.tutorial_cnn(seed=0, device="cpu")
    assert sum(parameter.numel() for parameter in model.parameters()) == 26_010
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    same, other = (models.tutorial_cnn(seed=seed, device="cpu") for seed in (0, 1))
    assert torch.equal(weights(model), weights(same))
    assert not torch.equal(weights(model), weights(other))


def test_making_a_model_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    models.tutorial_cnn(seed=5, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_non_private_is_sgd_with_the_expected_batch_size_as_divisor(digits: data.Dataset) -> None:
    images, labels = batch(digits, 50)
    trial = make_trial("non-private", batch_size=64, learning_rate=0.5)
    model, engine = build(trial)
    loss = engine.step(images, labels)
    plain = models.tutorial_cnn(seed=1, device="cpu")
    plain_loss = F.cross_entropy(plain(images), labels, reduction="sum")
    plain_loss.backward()
    assert float(loss) == pytest.approx(float(plain_loss.detach()), rel=1e-5)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - 0.5 * theirs.grad / 64)


@EVERY_PRIVATE
def test_no_noise_and_a_wide_clip_recover_plain_sgd(
    engine: EngineName, digits: data.Dataset
) -> None:
    images, labels = batch(digits, 50)
    wide = make_trial(engine, noise_multiplier=0.0, max_grad_norm=1e6)
    plain = gradient(make_trial("non-private"), images, labels)
    error = (gradient(wide, images, labels) - plain).norm() / plain.norm()
    assert error < 1e-5


@EVERY_PRIVATE
@pytest.mark.parametrize("max_grad_norm", [0.01, 1.0])
def test_no_example_moves_the_sum_beyond_the_clipping_norm(
    engine: EngineName, max_grad_norm: float, digits: data.Dataset
) -> None:
    trial = make_trial(engine, noise_multiplier=0.0, max_grad_norm=max_grad_norm)
    images, labels = batch(digits, 33)
    whole = gradient(trial, images, labels)
    for left_out in range(3):
        keep = torch.arange(33) != left_out
        moved = (whole - gradient(trial, images[keep], labels[keep])).norm()
        assert moved <= max_grad_norm * 1.001
        assert moved >= max_grad_norm * 0.999  # every digit's first gradient is longer than 1


@EVERY_PRIVATE
@pytest.mark.parametrize("physical_batch_size", [None, 7])
def test_engines_follow_the_same_trajectory(
    engine: EngineName, physical_batch_size: int | None, digits: data.Dataset
) -> None:
    """Five noisy steps with momentum: the same weights as hooks within 1e-5 of the way moved.

    Rounding differs from engine to engine, and five steps have not blown it up.
    """
    moved = {}
    arms: list[tuple[EngineName, int | None]] = [("opacus-hooks", None)]
    for name, physical in [*arms, (engine, physical_batch_size)]:
        trial = make_trial(name, noise_multiplier=0.5, momentum=0.9)
        model, stepper = build(trial, physical)
        before = weights(model)
        for step in range(5):
            stepper.step(*batch(digits, 40 + step, start=50 * step))
        moved[name, physical] = weights(model) - before
    reference = moved["opacus-hooks", None]
    error = (moved[engine, physical_batch_size] - reference).norm() / reference.norm()
    assert error < 1e-5


def has_spread(noise: Tensor, expected: float) -> bool:
    """Whether the noise's standard deviation is as expected, to 3 % (7 standard errors)."""
    return (
        abs(float(noise.std()) / expected - 1) < 0.03 and abs(float(noise.mean())) < expected / 30
    )


@EVERY_PRIVATE
def test_an_empty_batch_is_noise_of_the_right_spread(engine: EngineName) -> None:
    trial = make_trial(engine, noise_multiplier=1.5, max_grad_norm=0.4)
    noise = gradient(trial, torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64))
    assert has_spread(noise, 1.5 * 0.4)
    for wrong in (2 / 3, 3 / 2):
        assert not has_spread(wrong * noise, 1.5 * 0.4)


@EVERY_PRIVATE
def test_noise_is_added_once_a_step_however_many_parts(
    engine: EngineName, digits: data.Dataset
) -> None:
    images, labels = batch(digits, 40)
    trial = make_trial(engine, noise_multiplier=50.0, max_grad_norm=0.1)
    model, stepper = build(trial, physical_batch_size=8)
    before = weights(model)
    stepper.step(images, labels)
    noisy = (before - weights(model)) * trial.batch_size / trial.learning_rate
    clipped = gradient(make_trial(engine, noise_multiplier=0.0, max_grad_norm=0.1), images, labels)
    assert has_spread(noisy - clipped, 50.0 * 0.1)


@EVERY_PRIVATE
def test_each_step_draws_new_noise_from_its_own_generator(engine: EngineName) -> None:
    nothing = torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64)
    model, stepper = build(make_trial(engine))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    at = [weights(model)]
    for _ in range(2):
        stepper.step(*nothing)
        at.append(weights(model))
    first, second = at[1] - at[0], at[2] - at[1]
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_returns_the_sum_of_the_losses_before_it(
    engine: EngineName, digits: data.Dataset
) -> None:
    images, labels = batch(digits, 30)
    plain = models.tutorial_cnn(seed=1, device="cpu")
    with torch.no_grad():
        expected = float(F.cross_entropy(plain(images), labels, reduction="sum"))
    _, stepper = build(make_trial(engine), physical_batch_size=8)
    assert float(stepper.step(images, labels)) == pytest.approx(expected, rel=1e-5)
    assert float(stepper.step(images[:0], labels[:0])) == 0


def test_opacus_hooks_are_wrong_on_channels_last_activations(digits: data.Dataset) -> None:
    """The reason why `memory_format` keeps them contiguous; when this fails, it need not."""
    images, labels = batch(digits, 32)
    trial = make_trial("opacus-hooks", noise_multiplier=0.0, max_grad_norm=1e6)
    plain = gradient(make_trial("non-private"), images, labels)
    model, engine = build(trial)
    model.to(memory_format=torch.channels_last)
    before = weights(model)
    engine.step(images, labels)
    moved = (before - weights(model)) * trial.batch_size / trial.learning_rate
    assert (moved - plain).norm() > 0.1 * plain.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ENGINES)
def test_on_cuda_a_step_without_noise_is_that_of_the_cpu(
    engine: EngineName, digits: data.Dataset
) -> None:
    images, labels = batch(digits, 50)
    changed = {} if engine == NON_PRIVATE else {"noise_multiplier": 0.0}
    trial = make_trial(engine, **changed)
    on_cpu = gradient(trial, images, labels)
    model = models.tutorial_cnn(seed=1, device="cuda")
    stepper = engines.build(trial, model, noise=torch.Generator("cuda").manual_seed(2))
    before = weights(model)
    stepper.step(images.cuda(), labels.cuda())
    on_cuda = (before - weights(model)).cpu() * trial.batch_size / trial.learning_rate
    assert (on_cuda - on_cpu).norm() < 1e-3 * on_cpu.norm()
