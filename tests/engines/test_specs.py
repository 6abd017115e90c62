"""Every engine owes the same for every model, optimizer and clipping rule that it supports."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from factories import make_trial
from torch import Tensor, nn

from dpbench import clipping, engines, models, optimizers, plugins
from dpbench.datasets import Data
from dpbench.errors import BadInput
from dpbench.trial import Trial

BATCH = 24


def supported(trial: Trial) -> bool:
    """Whether the trial's engine itself, without a stand-in, can train it on this CPU."""
    engine = engines.spec(trial.engine)
    if engine.supports(trial, "cpu") is not None:
        return False
    return engine.refuses(models.build(trial.model, trial.dataset, seed=0, device="cpu")) is None


def takes_digits(model: str) -> bool:
    try:
        models.refuse(model, "digits")
    except BadInput:
        return False
    return True


MODELS = [model for model in models.names() if takes_digits(model)]
PAIRS = [
    pytest.param(engine, model, id=f"{engine}, {model}")
    for engine, model in itertools.product(engines.names(), MODELS)
    if supported(make_trial(engine, model=model))
]
PRIVATE_PAIRS = [pair for pair in PAIRS if engines.spec(str(pair.values[0])).private]
PLAIN_PAIRS = [pair for pair in PAIRS if pair.values[0] == "fused-non-private"]
# Adam divides by gradients' sizes, so that rounding grows from step to step in a deep model
RECOVERED = [
    pytest.param(*pair.values, optimizer, id=f"{pair.id}, {optimizer}")
    for pair, optimizer in itertools.product(PRIVATE_PAIRS, optimizers.names())
    if (pair.values[1], optimizer) != ("resnet-gn", "adam")
]
RULES = [
    pytest.param(engine, model, rule, id=f"{engine}, {model}, {rule}")
    for engine, model, rule in itertools.product(engines.private_names(), MODELS, clipping.names())
    if supported(make_trial(engine, model=model, clipping=rule))
]


def precision(engine: str) -> torch.dtype:
    """In float64 no ReLU of a deep model is on the other side of 0 by rounding alone."""
    return torch.float32 if engine.startswith("fused") else torch.float64


def build(model: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    return models.build(model, "digits", seed=1, device="cpu").to(dtype)


def batch(digits: Data, model: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    inputs, targets = digits.train
    few = replace(digits, train=(inputs[:BATCH], targets[:BATCH]), test=(inputs[:0], targets[:0]))
    inputs, targets = models.taken(model, few).batch(torch.arange(BATCH))
    return inputs.to(dtype) if inputs.is_floating_point() else inputs, targets


def example_gradients(model: str, digits: Data, dtype: torch.dtype) -> Tensor:
    """The gradients of the examples' losses [B, P], one example after another."""
    plain = build(model, dtype)
    rows = []
    for one, target in zip(*batch(digits, model, dtype), strict=True):
        loss = F.cross_entropy(plain(one[None]), target[None])
        found = torch.autograd.grad(loss, list(plain.parameters()))
        rows.append(torch.cat([each.reshape(-1) for each in found]))
    return torch.stack(rows)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([each.detach().reshape(-1) for each in model.parameters()])


def moved(
    trial: Trial, digits: Data, *, steps: int = 1, dtype: torch.dtype = torch.float32
) -> Tensor:
    """How far so many steps of the trial's engine on the same batch move the weights."""
    model = build(trial.model, dtype)
    before = weights(model)
    noise = torch.Generator().manual_seed(2)
    engine = engines.build(trial, model, noise=noise, physical_batch_size=10)
    assert engines.implementation(trial, build(trial.model)).name == trial.engine
    for _ in range(steps):
        engine.step(*batch(digits, trial.model, dtype))
    return weights(model) - before


@pytest.mark.parametrize(("engine", "model", "rule"), RULES)
def test_the_sum_is_that_of_a_loop_over_examples(
    engine: str, model: str, rule: str, digits: Data
) -> None:
    dtype = precision(engine)
    gradients = example_gradients(model, digits, dtype)
    norms = gradients.norm(dim=1)
    bound = float(norms.median())
    fields = {"max_grad_norm": bound, "noise_multiplier": 0.0, "clipping": rule}
    trial = make_trial(engine, model=model, learning_rate=1.0, **fields)
    factors = clipping.spec(rule).factors(norms, bound)
    expected = -(factors @ gradients) / trial.batch_size
    error = (moved(trial, digits, dtype=dtype) - expected).norm() / expected.norm()
    assert error < (1e-4 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize(("engine", "model", "optimizer"), RECOVERED)
def test_no_noise_and_a_wide_clip_recover_the_non_private_steps(
    engine: str, model: str, optimizer: str, digits: Data
) -> None:
    fields = {"model": model, "optimizer": optimizer, "learning_rate": 0.01}
    wide = make_trial(engine, noise_multiplier=0.0, max_grad_norm=1e6, **fields)
    dtype = precision(engine)
    plain = moved(make_trial("non-private", **fields), digits, steps=3, dtype=dtype)
    # where a gradient is near zero, Adam divides rounding by rounding
    close = (moved(wide, digits, steps=3, dtype=dtype) - plain).abs() < 1e-4 * plain.abs().max()
    assert close.float().mean() > 0.99


@pytest.mark.parametrize(("engine", "model"), PLAIN_PAIRS)
def test_plain_steps_are_those_of_autograd(engine: str, model: str, digits: Data) -> None:
    ours, theirs = (
        moved(make_trial(name, model=model), digits, steps=3) for name in (engine, "non-private")
    )
    assert (ours - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize(("engine", "model"), PRIVATE_PAIRS)
def test_the_noise_has_the_spread_of_the_claim(engine: str, model: str, digits: Data) -> None:
    quiet = make_trial(
        engine, model=model, noise_multiplier=0.0, max_grad_norm=0.2, learning_rate=1.0
    )
    loud = replace(quiet, noise_multiplier=30.0)
    noise = (moved(loud, digits) - moved(quiet, digits)) * quiet.batch_size
    assert float(noise.std()) == pytest.approx(30.0 * 0.2, rel=0.03)
    assert abs(float(noise.mean())) < 30.0 * 0.2 / 30


@pytest.mark.parametrize("rule", clipping.names())
def test_no_gradient_is_longer_than_max_grad_norm(rule: str) -> None:
    norms = torch.logspace(-6, 6, 200)
    for bound in (0.01, 1.0, 50.0):
        scaled = norms * clipping.spec(rule).factors(norms, bound)
        assert float(scaled.max()) <= bound * (1 + 1e-6)
        per_trial = clipping.spec(rule).factors(norms[None], torch.tensor([[bound]]))
        torch.testing.assert_close(per_trial[0] * norms, scaled)


@pytest.mark.parametrize("package", ["engines", "optimizers", "clipping"])
def test_a_spec_has_the_name_of_its_file(package: str) -> None:
    for name in plugins.names(package):
        assert plugins.spec(package, name).name == name


def test_a_stand_in_is_an_engine_of_the_same_kind() -> None:
    for spec in map(engines.spec, engines.names()):
        if spec.stand_in is not None:
            assert engines.spec(spec.stand_in).private == spec.private


def test_the_fastest_engine_that_can_train_it_is_the_default() -> None:
    assert engines.fastest(make_trial("opacus-hooks")) == "fused"
    assert engines.fastest(make_trial("non-private")) == "fused-non-private"
    assert engines.fastest(make_trial("opacus-hooks", model="mlp")) == "bookkeeping"
    assert engines.fastest(make_trial("non-private", model="mlp")) == "non-private"


def test_a_stand_in_is_recorded() -> None:
    trial = make_trial("fused", model="mlp")
    assert engines.planned(trial, "cpu").name == "bookkeeping"
    assert engines.planned(make_trial("fused"), "cuda:0").name == "bookkeeping"
    assert engines.implementation(trial, build("mlp")).name == "bookkeeping"


def test_the_kernel_knows_the_tanh_cnn_of_mnist_alone() -> None:
    assert engines.fastest(make_trial("opacus-hooks", model="tanh-cnn")) == "fused"
    assert engines.fastest(make_trial("non-private", model="tanh-cnn")) == "fused-non-private"
    coloured = make_trial("opacus-hooks", model="tanh-cnn", dataset="cifar10")
    assert engines.fastest(coloured) == "bookkeeping"
