"""Padding changes no step, so that it can be captured; what captures it leaves it as it was."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from factories import make_trial, tutorial_cnn
from torch import Tensor

from dpbench import engines
from dpbench.datasets import Data
from dpbench.engines.backward import NO_LABEL
from dpbench.engines.cuda_graphs import PADDING, Capturable, Graphed, Padded, padded_size
from dpbench.trial import Trial

NAMES: tuple[str, ...] = ("non-private", "bookkeeping")
SIZES = (40, 0, 33, 32, 7)  # of the batches


def trial(engine: str) -> Trial:
    """Its rate is low, so that rounding does not grow over the steps."""
    return make_trial(engine, momentum=0.9, learning_rate=0.01)


def engine_of(name: str, device: str = "cpu") -> tuple[Capturable, torch.Generator]:
    """Without its graphs, where it is on a GPU."""
    from dpbench.engines.bookkeeping.step import Bookkeeping
    from dpbench.engines.non_private.step import NonPrivate

    noise = torch.Generator(device).manual_seed(2)
    model = tutorial_cnn(seed=1, device=device)
    if name == "non-private":
        return NonPrivate(trial(name), model, physical_batch_size=24), noise
    return Bookkeeping(trial(name), model, noise=noise, physical_batch_size=24), noise


def stack(device: str = "cpu") -> tuple[Capturable, torch.Generator]:
    noise = torch.Generator(device).manual_seed(2)
    trials = [trial("fused"), replace(trial("fused"), max_grad_norm=0.1, learning_rate=0.3)]
    alike = [tutorial_cnn(seed=1, device=device) for _ in trials]
    return engines.build_stack(trials, alike, noise=[noise, noise], physical_batch_size=24), noise


def engine_or_stack(name: str, device: str = "cpu") -> tuple[Capturable, torch.Generator]:
    if name == "stacked":
        return stack(device)
    return engine_of("non-private" if name == "non-private" else "bookkeeping", device)


def batches(digits: Data, device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    found, start = [], 0
    for size in SIZES:
        part = slice(start, start + size)
        images = digits.prepared(digits.train[0][part])
        found.append((images.to(device), digits.train[1][part].to(device)))
        start += size
    return found


def assert_close(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("count", "size"), [(0, 1), (1, 1), (PADDING, 1), (PADDING + 1, 2)])
def test_sizes_are_padded_to_the_next_multiple(count: int, size: int) -> None:
    assert padded_size(count) == size * PADDING


@pytest.mark.parametrize("name", [*NAMES, "stacked"])
def test_a_padded_step_is_the_step(name: str, digits: Data) -> None:
    plain, _ = engine_or_stack(name)
    padded, _ = engine_or_stack(name)
    held = Padded(padded_size(max(SIZES)), *batches(digits)[0])
    for images, labels in batches(digits):
        held.fill(images, labels)
        assert int((held.labels == NO_LABEL).sum()) == len(held.labels) - len(labels)
        losses = padded.step(held.images, held.labels)
        torch.testing.assert_close(losses, plain.step(images, labels))
    assert_close(padded.state, plain.state)


def test_the_state_is_all_that_a_step_changes(digits: Data) -> None:
    """Put back, the next step is the same again; with momentum, velocities belong to it."""
    for name in [*NAMES, "stacked"]:
        engine, noise = engine_or_stack(name)
        images, labels = batches(digits)[0]
        engine.step(images, labels)
        kept, state = [each.clone() for each in engine.state], noise.get_state()
        engine.step(images, labels)
        once = [each.clone() for each in engine.state]
        for each, before in zip(engine.state, kept, strict=True):
            each.copy_(before)
        noise.set_state(state)
        engine.step(images, labels)
        assert all(map(torch.equal, engine.state, once))
        assert not any(map(torch.equal, engine.state, kept))


@pytest.mark.skipif(torch.cuda.is_available(), reason="captures do not fail here")
def test_where_a_capture_fails_steps_go_on_without(
    digits: Data, caplog: pytest.LogCaptureFixture
) -> None:
    plain, _ = engine_of("bookkeeping")
    engine, noise = engine_of("bookkeeping")
    graphed = Graphed(engine, noise=[noise])
    with caplog.at_level(logging.WARNING):
        for images, labels in batches(digits):
            graphed.step(images, labels)
            plain.step(images, labels)
    assert all(map(torch.equal, engine.state, plain.state))
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "Steps are launched kernel by kernel"
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*NAMES, "stacked"])
def test_on_cuda_graphs_follow_the_trajectory_of_plain_steps(
    name: str,
    digits: Data,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same noise, too: a replay draws on from where the generator is."""
    # cuDNN's usual gradients by weights add up in another order each time
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    plain, _ = engine_or_stack(name, "cuda")
    engine, noise = engine_or_stack(name, "cuda")
    graphed = Graphed(engine, noise=[noise])
    for images, labels in batches(digits, "cuda") * 2:
        torch.testing.assert_close(graphed.step(images, labels), plain.step(images, labels))
    assert_close(engine.state, plain.state)
    assert not caplog.records
