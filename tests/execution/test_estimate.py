import pytest
from factories import make_trial

from dpbench import engines
from dpbench.execution import estimate
from dpbench.execution.progress import duration


def test_a_trial_costs_its_examples_at_its_engines_rate() -> None:
    trial = make_trial(epochs=3)  # three epochs of 22 steps of 64
    assert estimate.examples(trial) == 3 * 22 * 64
    assert estimate.training_seconds(trial, {("opacus-hooks", "tutorial-cnn"): 64.0}) == 66
    nominal = estimate.training_seconds(trial, {})
    assert nominal == 3 * 22 * 64 / engines.spec("opacus-hooks").examples_per_second


def test_a_model_with_more_arithmetic_takes_longer() -> None:
    seconds = {
        model: estimate.training_seconds(make_trial(dataset="cifar10", model=model), {})
        for model in ("mlp", "tanh-cnn")
    }
    assert seconds["tanh-cnn"] / seconds["mlp"] == pytest.approx(
        38_896_896 / (128 * (3 * 32 * 32 + 10)), rel=1e-3
    )
    measured = {("opacus-hooks", "mlp"): 1.0}  # of another model
    trial = make_trial()
    assert estimate.training_seconds(trial, measured) == estimate.training_seconds(trial, {})


def test_every_engine_has_a_rate() -> None:
    assert all(engines.spec(name).examples_per_second > 0 for name in engines.names())


def test_two_workers_halve_the_training() -> None:
    trials = [make_trial(seed=seed) for seed in range(4)]
    one, two = (
        estimate.sweep_seconds(trials, workers=n, timing_processes=0, measured={}) for n in (1, 2)
    )
    assert two - estimate.START_SECONDS == pytest.approx((one - estimate.START_SECONDS) / 2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (245, "4 min 05 s"), (7830, "2 h 10 min")],
)
def test_durations_are_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
