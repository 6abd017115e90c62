from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest
import torch
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant
from factories import make_trial, mostly_slow
from torch import nn

from dpbench import engines
from dpbench.datasets import Data, loading
from dpbench.engines.protocol import Engine
from dpbench.errors import TrainingError
from dpbench.observations import Epoch
from dpbench.privacy import accounting, sampling
from dpbench.training import evaluation, loop
from dpbench.trial import Trial


def results(trial: Trial, dataset: Data, **knobs: int) -> list[Epoch]:
    """The trial's epochs without their wall times."""
    import dataclasses

    return [
        dataclasses.replace(epoch, train_seconds=None, examples_per_second=None)
        for epoch in loop.train(trial, dataset, **knobs)
    ]


@pytest.mark.parametrize(
    "engine", mostly_slow(engines.names(), lambda name: not name.startswith("opacus"))
)
def test_the_same_trial_gives_the_same_bits(engine: str, digits: Data) -> None:
    trial = make_trial(engine)
    first = results(trial, digits)
    other = results(make_trial(engine, seed=7), digits)  # what runs in between changes nothing
    assert results(trial, digits) == first
    assert other != first


def test_arms_of_one_seed_see_the_same_batches(digits: Data) -> None:
    seen = {
        engine: [epoch.examples_seen for epoch in results(make_trial(engine, epochs=2), digits)]
        for engine in ("non-private", "opacus-hooks", "opacus-ghost")
    }
    assert len({tuple(counts) for counts in seen.values()}) == 1


def test_an_epoch_counts_from_the_trials_start(digits: Data) -> None:
    trial = make_trial(epochs=3)
    epochs = list(loop.train(trial, digits))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert [epoch.steps for epoch in epochs] == [22, 44, 66]  # round(1437 / 64) each
    for epoch in epochs:
        assert epoch.sample_rate == 64 / 1437
        assert epoch.steps is not None
        spent = accounting.spent(
            noise_multiplier=1.0, sample_rate=64 / 1437, steps=epoch.steps, delta=1e-5
        )
        row = accounting.columns(asdict(trial) | asdict(epoch))
        assert (row["epsilon"], row["epsilon_rdp"]) == (spent.epsilon, spent.epsilon_rdp)
        assert row["accountant"] == "pld"
        assert epoch.examples_seen is not None
        assert epoch.train_seconds is not None
        assert epoch.examples_per_second == epoch.examples_seen / epoch.train_seconds
        # the number of draws is binomial: 66 steps of 64 expected, within 5 standard deviations
        assert abs(epoch.examples_seen - 64 * epoch.steps) < 5 * (64 * epoch.steps) ** 0.5


def test_a_baseline_spends_no_epsilon_and_clip_only_spends_all(digits: Data) -> None:
    baseline, clip_only = make_trial("non-private"), make_trial(noise_multiplier=0.0)
    (plain,) = loop.train(baseline, digits)
    assert accounting.columns(asdict(baseline) | asdict(plain)) == {}
    (clipped,) = loop.train(clip_only, digits)
    assert accounting.columns(asdict(clip_only) | asdict(clipped))["epsilon"] == float("inf")


def test_shuffled_trials_spend_the_bound_without_amplification(digits: Data) -> None:
    trials = make_trial(sampling="shuffle", epochs=2), make_trial(epochs=2)
    seen = [list(loop.train(trial, digits))[-1] for trial in trials]
    assert seen[0].steps == seen[1].steps == 44
    assert seen[0].examples_seen == 2 * 1437
    last, poisson = (
        accounting.columns(asdict(trial) | asdict(epoch))
        for trial, epoch in zip(trials, seen, strict=True)
    )
    assert last["accountant"] == "gaussian"
    # two Gaussian mechanisms of noise 1 are one of noise 1 / sqrt(2), by whichever library
    event = dp_accounting.GaussianDpEvent(2**-0.5)
    assert last["epsilon"] == pytest.approx(
        PLDAccountant(value_discretization_interval=1e-4).compose(event).get_epsilon(1e-5), abs=1e-3
    )
    assert last["epsilon_if_poisson"] == poisson["epsilon"]
    assert last["epsilon"] > 2 * poisson["epsilon"]
    assert {last[f"epsilon_{name}"] for name in ("pld", "rdp", "gdp")} == {None}


def weights_after(trial: Trial, dataset: Data) -> torch.Tensor:
    """All weights at the end of the trial, float64 [P]."""
    kept: list[nn.Module] = []
    build = engines.build

    def spy(trial: Trial, model: nn.Module, **knobs: Any) -> Engine:
        kept.append(model)
        return build(trial, model, **knobs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engines, "build", spy)
        list(loop.train(trial, dataset))
    return torch.cat([each.detach().reshape(-1) for each in kept[0].parameters()]).double()


def test_two_trials_of_a_seed_do_not_give_away_the_gradients(digits: Data) -> None:
    """With shared noise, 2 w(noise 10) - w(noise 20) had none: the sum of private gradients.

    A step here is the whole of the digits at once, so that the weights move by one clipped sum.
    """
    few = {"batch_size": len(digits.train[1]), "learning_rate": 1.0, "epochs": 1}
    exact = weights_after(make_trial("bookkeeping", noise_multiplier=0.0, **few), digits)
    one = weights_after(make_trial("bookkeeping", noise_multiplier=10.0, **few), digits)
    two = weights_after(make_trial("bookkeeping", noise_multiplier=20.0, **few), digits)
    error = (2 * one - two - exact).norm()
    alone = (one - exact).norm()
    spread = 10.0 / few["batch_size"] * exact.numel() ** 0.5
    assert alone == pytest.approx(spread, rel=0.05)
    assert error == pytest.approx(8**0.5 * spread, rel=0.05)  # sqrt((2 * 10)^2 + 20^2) / 10


def test_engines_draw_the_same_noise_and_a_longer_trial_goes_on(digits: Data) -> None:
    trial = make_trial("bookkeeping", epochs=2)
    by_other = list(loop.train(replace(trial, engine="opacus-hooks"), digits))
    by_this = list(loop.train(trial, digits))
    assert [epoch.test_loss for epoch in by_this] == pytest.approx(
        [epoch.test_loss for epoch in by_other], rel=1e-3
    )
    (shorter,) = results(replace(trial, epochs=1), digits)
    assert shorter == results(trial, digits)[0]


@pytest.mark.parametrize(
    "changed",
    [{"optimizer": "adam"}, {"clipping": "automatic"}, {"sampling": "shuffle"}, {"momentum": 0.9}],
    ids=str,
)
def test_a_longer_trial_repeats_a_shorter_one_whatever_is_searched(
    changed: dict[str, Any], digits: Data
) -> None:
    """A search that stops early rests on it: what was stopped is a part of what goes on."""
    trial = make_trial("fused" if "clipping" not in changed else "bookkeeping", epochs=2, **changed)
    (shorter,) = results(replace(trial, epochs=1), digits)
    assert shorter == results(trial, digits)[0]


def test_fresh_noise_is_the_systems_and_is_recorded(digits: Data) -> None:
    trial = make_trial("bookkeeping", noise_source="system")
    first, second = (list(loop.train(trial, digits))[-1] for _ in range(2))
    assert first.noise_derivation == second.noise_derivation == "system"
    assert first.system_seed is not None
    assert first.system_seed != second.system_seed
    assert first.examples_seen != second.examples_seen or first.test_loss != second.test_loss
    usual = results(make_trial("bookkeeping"), digits)[-1]
    assert (usual.noise_derivation, usual.system_seed) == ("trial", None)
    (plain,) = loop.train(make_trial("non-private"), digits)
    assert (plain.noise_derivation, plain.system_seed) == (None, None)


Batches = Iterator[np.ndarray]
right = sampling.poisson_batches


def at_twice_the_rate(*, examples: int, sample_rate: float, rng: np.random.Generator) -> Batches:
    return right(examples=examples, sample_rate=2 * sample_rate, rng=rng)


def half_of_them(*, examples: int, sample_rate: float, rng: np.random.Generator) -> Batches:
    return right(examples=examples // 2, sample_rate=2 * sample_rate, rng=rng)


def shuffled(*, examples: int, sample_rate: float, rng: np.random.Generator) -> Batches:
    return sampling.shuffled_batches(
        examples=examples, steps_per_epoch=round(1 / sample_rate), rng=rng
    )


def of_fixed_size(*, examples: int, sample_rate: float, rng: np.random.Generator) -> Batches:
    while True:
        yield rng.choice(examples, round(examples * sample_rate), replace=False)


def always_the_same(*, examples: int, sample_rate: float, rng: np.random.Generator) -> Batches:
    while True:
        yield np.arange(round(examples * sample_rate))


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        (at_twice_the_rate, r"at rate 0\.08\d+, not 0\.04"),
        (half_of_them, "too unevenly"),
        (shuffled, "too evenly"),
        (of_fixed_size, "sizes too alike"),
        (always_the_same, "too unevenly"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_trial_whose_sampler_draws_otherwise_fails(
    faulty: Callable[..., Batches],
    said: str,
    digits: Data,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "poisson_batches", faulty)
    with pytest.raises(TrainingError, match=f"no epsilon holds: .* {said}"):
        list(loop.train(make_trial(), digits))


def test_held_out_examples_are_evaluated_apart(digits: Data) -> None:
    split = loading.load("digits", Path(), "cpu", 400)
    *_, last = loop.train(make_trial("non-private", epochs=10, validation_examples=400), split)
    assert last.sample_rate == 64 / 1037
    assert last.validation_accuracy is not None
    assert last.validation_accuracy > 0.8
    assert (last.validation_accuracy * 400) % 1 == pytest.approx(0)
    assert last.validation_loss != last.test_loss
    (plain,) = loop.train(make_trial("non-private"), digits)
    assert (plain.validation_accuracy, plain.validation_loss) == (None, None)


def test_training_learns(digits: Data) -> None:
    epochs = list(loop.train(make_trial("non-private", epochs=10), digits))
    assert epochs[-1].test_accuracy is not None
    assert epochs[-1].test_accuracy > 0.8
    assert epochs[-1].train_loss is not None
    assert epochs[0].train_loss is not None
    assert epochs[-1].train_loss < epochs[0].train_loss / 2


def test_a_diverged_trial_says_so(digits: Data) -> None:
    with pytest.raises(TrainingError, match="diverged: train loss nan"):
        list(loop.train(make_trial("non-private", learning_rate=1e6), digits))


def test_steps_take_denormal_numbers_for_zero(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that explode under the noise make so many of them that steps are slow."""
    build, seen = engines.build, []

    def watched(*args: Any, **options: Any) -> Any:
        engine = build(*args, **options)
        step = engine.step

        def watched_step(images: torch.Tensor, labels: torch.Tensor) -> Any:
            seen.append(denormal())
            return step(images, labels)

        monkeypatch.setattr(engine, "step", watched_step)
        return engine

    def denormal() -> float:
        return float((torch.full((64,), 1e-20) * 1e-20).max())

    monkeypatch.setattr(engines, "build", watched)
    assert list(loop.train(make_trial("fused", epochs=2), digits))
    assert set(seen) == {0.0}
    assert denormal() > 0  # accountants keep them


def test_evaluation_is_over_the_whole_test_set() -> None:
    class Sure(torch.nn.Module):
        """Says class 3 with logit 2, the others 0."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 2.0 * torch.nn.functional.one_hot(torch.full((len(images),), 3), 10)

    labels = torch.tensor([3] * 1_500 + [4] * 1_000)  # more than one part
    images = torch.zeros(2_500, 1, 28, 28, dtype=torch.uint8)
    seen = evaluation.evaluate(Sure(), images, labels, prepare=torch.Tensor.float)
    assert seen.accuracy == 0.6
    assert seen.balanced_accuracy == 0.5
    log_sum = torch.logsumexp(torch.tensor([2.0] + [0.0] * 9), 0).item()
    assert seen.loss == pytest.approx(log_sum - 0.6 * 2.0, rel=1e-6)


@pytest.mark.slow  # test_sweep trains on MNIST for one epoch
def test_the_tutorials_setting_reaches_its_accuracy(mnist_root: Path) -> None:
    # Opacus' MNIST tutorial after ten epochs; a prototype reached 92.5 %.
    trial = make_trial(
        "fused",
        dataset="mnist",
        noise_multiplier=1.3,
        batch_size=64,
        learning_rate=0.05,
        epochs=10,
    )
    *_, last = loop.train(trial, loading.load("mnist", mnist_root, "cpu"))
    assert last.test_accuracy == pytest.approx(0.92, abs=0.015)
    spent = accounting.columns(asdict(trial) | asdict(last))
    assert spent["epsilon"] == pytest.approx(0.321, abs=1e-3)
    assert spent["epsilon_rdp"] == pytest.approx(0.4518, abs=1e-3)


def test_evaluation_drops_nothing_and_leaves_each_layer_in_its_mode() -> None:
    inputs, targets = torch.randn(40, 6), torch.arange(40) % 3
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5), nn.BatchNorm1d(3).eval())
    plain = nn.Sequential(model[0], model[2])
    found = evaluation.evaluate(model, inputs, targets, prepare=lambda each: each)
    assert found == evaluation.evaluate(plain, inputs, targets, prepare=lambda each: each)
    assert [layer.training for layer in model] == [True, True, False]
