"""Every engine owes the same: clipping, noise of the right spread, and the others' trajectory."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factories import TESTS, make_trial, tutorial_cnn
from torch import Tensor, nn
from torch.nn.utils import prune

from dpbench import engines, models
from dpbench.datasets import Data
from dpbench.engines import layout
from dpbench.engines.bookkeeping import convolutions
from dpbench.engines.fused import kernel, simd
from dpbench.engines.fused import step as fused
from dpbench.engines.opacus.grad_sample import GradSample
from dpbench.engines.protocol import Engine
from dpbench.errors import BadInput
from dpbench.training import loop
from dpbench.trial import Trial

PRIVATE = engines.private_names()
EVERY_PRIVATE = pytest.mark.parametrize("engine", PRIVATE)


def build(trial: Trial, physical_batch_size: int | None = None) -> tuple[nn.Module, Engine]:
    model = tutorial_cnn(seed=1, device="cpu")
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


def batch(digits: Data, size: int, start: int = 0) -> tuple[Tensor, Tensor]:
    part = slice(start, start + size)
    return digits.prepared(digits.train[0][part]), digits.train[1][part]


def test_the_model_is_the_tutorials() -> None:
    model = tutorial_cnn(seed=0, device="cpu")
    assert sum(parameter.numel() for parameter in model.parameters()) == 26_010
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    same, other = (tutorial_cnn(seed=seed, device="cpu") for seed in (0, 1))
    assert torch.equal(weights(model), weights(same))
    assert not torch.equal(weights(model), weights(other))


def test_making_a_model_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    tutorial_cnn(seed=5, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("engine", engines.non_private_names())
def test_non_private_is_sgd_with_the_expected_batch_size_as_divisor(
    engine: str, digits: Data
) -> None:
    images, labels = batch(digits, 50)
    trial = make_trial(engine, batch_size=64, learning_rate=0.5)
    model, stepper = build(trial)
    loss = stepper.step(images, labels)
    plain = tutorial_cnn(seed=1, device="cpu")
    plain_loss = F.cross_entropy(plain(images), labels, reduction="sum")
    plain_loss.backward()
    assert float(loss) == pytest.approx(float(plain_loss.detach()), rel=1e-5)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - 0.5 * theirs.grad / 64)


@EVERY_PRIVATE
def test_no_noise_and_a_wide_clip_recover_plain_sgd(engine: str, digits: Data) -> None:
    """Within 1e-4: where pixels tie in max-pooling to rounding, either may take the gradient."""
    images, labels = batch(digits, 50)
    wide = make_trial(engine, noise_multiplier=0.0, max_grad_norm=1e6)
    plain = gradient(make_trial("non-private"), images, labels)
    error = (gradient(wide, images, labels) - plain).norm() / plain.norm()
    assert error < 1e-4


@EVERY_PRIVATE
@pytest.mark.parametrize("max_grad_norm", [0.01, 1.0])
def test_no_example_moves_the_sum_beyond_the_clipping_norm(
    engine: str, max_grad_norm: float, digits: Data
) -> None:
    trial = make_trial(engine, noise_multiplier=0.0, max_grad_norm=max_grad_norm)
    images, labels = batch(digits, 33)
    whole = gradient(trial, images, labels)
    for left_out in range(3):
        keep = torch.arange(33) != left_out
        moved = (whole - gradient(trial, images[keep], labels[keep])).norm()
        assert moved <= max_grad_norm * 1.001
        assert moved >= max_grad_norm * 0.999  # every digit's first gradient is longer than 1


class Wrapped(nn.Module):
    """A model of which an engine cannot tell which layer comes first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)  # type: ignore[no-any-return]


@pytest.mark.parametrize("engine", ["opacus-hooks", "opacus-functorch"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["sequential", "wrapped"])
def test_opacus_computes_the_gradients_of_examples_alone_where_it_can(
    engine: str, wrapped: bool, digits: Data
) -> None:
    plain = tutorial_cnn(seed=1, device="cpu")
    model = Wrapped(plain) if wrapped else plain
    noise = torch.Generator().manual_seed(2)
    trial = make_trial(engine, noise_multiplier=0.5)
    stepper = engines.build(trial, model, noise=noise)
    of_the_batch = []
    for name, parameter in plain.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: of_the_batch.append(name))
    stepper.step(*batch(digits, 20))
    assert set(of_the_batch) == {name for name, _ in plain.named_parameters() if wrapped}
    reference, hooks = build(make_trial("opacus-hooks", noise_multiplier=0.5))
    hooks.step(*batch(digits, 20))
    torch.testing.assert_close(weights(plain), weights(reference))


@EVERY_PRIVATE
@pytest.mark.parametrize("physical_batch_size", [None, 7])
def test_engines_follow_the_same_trajectory(
    engine: str, physical_batch_size: int | None, digits: Data
) -> None:
    """Five noisy steps with momentum: the same weights as hooks within 1e-5 of the way moved.

    Rounding differs from engine to engine, and five steps have not blown it up.
    """
    moved = {}
    arms: list[tuple[str, int | None]] = [("opacus-hooks", None)]
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


def test_a_batch_of_several_chunks_is_summed_whole(digits: Data) -> None:
    images, labels = batch(digits, 500)  # more than either engine takes at a time on a CPU
    plain = tutorial_cnn(seed=1, device="cpu")
    loss = F.cross_entropy(plain(images), labels, reduction="sum")
    whole = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(plain.parameters()))])
    chunked = gradient(make_trial("non-private"), images, labels)
    assert (chunked - whole).norm() < 1e-5 * whole.norm()

    hooks, bookkeeping = (
        gradient(make_trial(engine, noise_multiplier=0.0), images, labels)
        for engine in ("opacus-hooks", "bookkeeping")
    )
    assert (bookkeeping - hooks).norm() < 1e-5 * hooks.norm()


def has_spread(noise: Tensor, expected: float) -> bool:
    """Whether the noise's standard deviation is as expected, to 3 % (7 standard errors)."""
    return (
        abs(float(noise.std()) / expected - 1) < 0.03 and abs(float(noise.mean())) < expected / 30
    )


@EVERY_PRIVATE
def test_an_empty_batch_is_noise_of_the_right_spread(engine: str) -> None:
    trial = make_trial(engine, noise_multiplier=1.5, max_grad_norm=0.4)
    noise = gradient(trial, torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64))
    assert has_spread(noise, 1.5 * 0.4)
    for wrong in (2 / 3, 3 / 2):
        assert not has_spread(wrong * noise, 1.5 * 0.4)


@EVERY_PRIVATE
def test_noise_is_added_once_a_step_however_many_parts(engine: str, digits: Data) -> None:
    images, labels = batch(digits, 40)
    trial = make_trial(engine, noise_multiplier=50.0, max_grad_norm=0.1)
    model, stepper = build(trial, physical_batch_size=8)
    before = weights(model)
    stepper.step(images, labels)
    noisy = (before - weights(model)) * trial.batch_size / trial.learning_rate
    clipped = gradient(make_trial(engine, noise_multiplier=0.0, max_grad_norm=0.1), images, labels)
    assert has_spread(noisy - clipped, 50.0 * 0.1)


@EVERY_PRIVATE
def test_each_step_draws_new_noise_from_its_own_generator(engine: str) -> None:
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


@pytest.mark.parametrize("engine", engines.names())
def test_a_step_returns_the_sum_of_the_losses_before_it(engine: str, digits: Data) -> None:
    images, labels = batch(digits, 30)
    plain = tutorial_cnn(seed=1, device="cpu")
    with torch.no_grad():
        expected = float(F.cross_entropy(plain(images), labels, reduction="sum"))
    _, stepper = build(make_trial(engine), physical_batch_size=8)
    assert float(stepper.step(images, labels)) == pytest.approx(expected, rel=1e-5)
    assert float(stepper.step(images[:0], labels[:0])) == 0


def test_opacus_hooks_are_wrong_on_channels_last_activations(digits: Data) -> None:
    """Why `layout.arrange` makes contiguous what the hooks read; when this fails, it need not."""
    images, labels = batch(digits, 32)
    trial = make_trial("opacus-hooks", noise_multiplier=0.0, max_grad_norm=1e6)
    plain = gradient(make_trial("non-private"), images, labels)
    model = tutorial_cnn(seed=1, device="cpu")
    model.to(memory_format=torch.channels_last)
    noise = torch.Generator().manual_seed(0)
    engine = GradSample(trial, model, mode="hooks", noise=noise, physical_batch_size=None)
    before = weights(model)
    engine.step(images, labels)
    moved = (before - weights(model)) * trial.batch_size / trial.learning_rate
    assert (moved - plain).norm() > 0.1 * plain.norm()


class InPlace(nn.Module):
    """Not a Sequential, and it writes over what its layers give."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(4 * 10 * 10, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.second(self.first(images).relu_().flatten(1))
        return logits.mul_(1.5)


def of_odd_layers() -> nn.Module:
    """Other strides, paddings and dilations, no bias, two dense layers."""
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1), bias=False),
        nn.Tanh(),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(80, 6, bias=False),
        nn.ELU(inplace=True),
        nn.Linear(6, 10),
    )


def of_known_layers() -> nn.Module:
    """The tutorial's kinds of layers in other orders, in a Sequential within a Sequential."""
    return nn.Sequential(
        nn.ReLU(),
        nn.MaxPool2d((2, 1), stride=1),
        nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
            nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            nn.ReLU(inplace=True),
        ),
        nn.Conv2d(4, 5, 2, bias=False),
        nn.Conv2d(5, 6, 2),
        nn.Flatten(),
        nn.ReLU(),
        nn.Linear(30, 7),
        nn.Linear(7, 9, bias=False),
        nn.ReLU(),
        nn.ReLU(),
        nn.Linear(9, 10),
    )


@pytest.mark.parametrize("strip_bytes", [convolutions.STRIP_BYTES, 1], ids=["", "strips"])
@pytest.mark.parametrize(
    "make",
    [
        of_odd_layers,
        InPlace,
        of_known_layers,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(432, 10)),
        lambda: nn.Sequential(nn.Conv2d(3, 10, 12), nn.Flatten()),
    ],
    ids=["odd", "in place", "plain", "linear", "convolution"],
)
def test_bookkeeping_knows_any_model_of_its_layers(
    make: Callable[[], nn.Module],
    strip_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As vmap(grad) has it."""
    monkeypatch.setattr(convolutions, "STRIP_BYTES", strip_bytes)
    torch.manual_seed(3)
    model = make()
    images, labels = torch.randn(9, 3, 12, 12), torch.arange(9)
    given = images.clone()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, parameters, (image[None],))
        return F.cross_entropy(logits, label[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(before, images, labels)
    flat = torch.cat([part.flatten(1) for part in each.values()], dim=1)
    norms = flat.norm(dim=1)
    bound = float(norms.median()) * 1.01
    factors = (bound / (norms + 1e-6)).clamp(max=1)
    assert 0 < (factors < 1).sum() < 9  # some are clipped, some are not

    trial = make_trial("bookkeeping", noise_multiplier=0.0, max_grad_norm=bound, learning_rate=0.1)
    noise = torch.Generator().manual_seed(0)
    engines.build(trial, model, noise=noise, physical_batch_size=4).step(images, labels)
    for name, parameter in model.named_parameters():
        expected = before[name] - 0.1 * torch.einsum("n,n...->...", factors, each[name]) / 64
        torch.testing.assert_close(parameter.detach(), expected)
    assert torch.equal(images, given)


def of_sequences(rows: int = 36, width: int = 12) -> nn.Module:
    """A model whose first Linear sees the images' rows, not [B, features]."""
    return nn.Sequential(nn.Linear(width, 5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * rows, 10))


def of_phases() -> nn.Module:
    """A strided convolution that is not the first."""
    return nn.Sequential(
        nn.Sequential(nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 2), nn.Conv2d(4, 5, (4, 2), stride=2)),
        nn.Flatten(),
        nn.Linear(100, 10),
    )


def with_hook() -> nn.Module:
    model = of_known_layers()
    assert isinstance(model, nn.Sequential)
    model[1].register_forward_hook(lambda _layer, _inputs, output: 2 * output)
    return model


def of_derived_weight(features: int = 432) -> nn.Module:
    layer = nn.Linear(features, 10, bias=False)
    return nn.Sequential(nn.Flatten(), prune.random_unstructured(layer, "weight", 0.5))


@pytest.mark.parametrize(
    "make",
    [
        of_odd_layers,
        of_known_layers,
        of_sequences,
        of_phases,
        with_hook,
        of_derived_weight,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(432, 10), shared_weight(10)),
    ],
    ids=["odd", "known", "sequences", "phases", "hook", "derived", "shared"],
)
@pytest.mark.parametrize("examples", [9, 0])
def test_a_non_private_step_of_any_model_is_autograds(
    make: Callable[[], nn.Module], examples: int
) -> None:
    torch.manual_seed(3)
    model = make().double()
    images, labels = torch.randn(examples, 3, 12, 12).double(), torch.arange(examples)
    loss = F.cross_entropy(model(images), labels, reduction="sum")
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = [
        each.detach() - gradient / 64
        for each, gradient in zip(model.parameters(), gradients, strict=True)
    ]
    trial = make_trial("non-private", learning_rate=1.0, batch_size=64)
    engine = engines.build(trial, model, noise=torch.Generator(), physical_batch_size=4)
    torch.testing.assert_close(engine.step(images, labels), loss.detach())
    for ours, theirs in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(ours.detach(), theirs)


def shared_weight(features: int = 784) -> nn.Module:
    first, second = nn.Linear(features, features), nn.Linear(features, features)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, second)


def test_after_a_step_that_failed_bookkeeping_takes_the_next(digits: Data) -> None:
    model, engine = build(make_trial("bookkeeping", noise_multiplier=0.0))
    images, labels = batch(digits, 20)
    before = weights(model)
    with pytest.raises(RuntimeError):
        engine.step(images[:, :, :9], labels)  # too small for the second convolution's pooling
    engine.step(images, labels)
    assert not torch.equal(weights(model), before)


def implementation(engine: str, model: nn.Module) -> str:
    return engines.implementation(make_trial(engine), model).name


def test_where_fused_does_not_know_the_model_another_takes_its_place() -> None:
    of_the_same_shapes = tutorial_cnn(seed=0, device="cpu")
    of_the_same_shapes[1] = nn.Tanh()
    for other in (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), of_the_same_shapes):
        assert implementation("fused", other) == "bookkeeping"
        assert implementation("fused-non-private", other) == "non-private"
    known = tutorial_cnn(seed=0, device="cpu")
    for engine in engines.names():
        assert implementation(engine, known) == engine


def _frozen(model: nn.Sequential) -> None:
    model.get_parameter("0.weight").requires_grad_(False)


def _overridden(model: nn.Sequential) -> None:
    model[1].forward = torch.tanh


def _halved(_: nn.Module, __: object, output: Tensor) -> Tensor:
    return output / 2


CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "forward hook": lambda model: model[0].register_forward_hook(_halved),
    "forward hook of all": lambda model: model.register_forward_hook(_halved),
    "forward pre-hook": lambda model: model[9].register_forward_pre_hook(lambda *_: None),
    "backward hook": lambda model: model[3].register_full_backward_hook(lambda *_: None),
    "backward pre-hook": lambda model: model[4].register_full_backward_pre_hook(lambda *_: None),
    "weight's hook": lambda model: model.get_parameter("7.weight").register_hook(torch.zeros_like),
    "frozen weight": _frozen,
    "pooling of another kind": lambda model: setattr(model[2], "ceil_mode", True),
    "forward of one layer": _overridden,
    "parametrised weight": lambda model: nn.utils.parametrizations.weight_norm(model[7]),
    "pruned weight": lambda model: prune.l1_unstructured(model[7], "weight", 0.5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_tutorial_cnn_is_not_the_kernels(
    change: Callable[[nn.Sequential], object], digits: Data
) -> None:
    """Another engine trains it as it is, or says that it cannot; and so do stacks."""
    images, labels = batch(digits, 32)
    trial = make_trial("fused-non-private")
    model, same = (tutorial_cnn(seed=1, device="cpu") for _ in range(2))
    change(model)
    assert implementation("fused-non-private", model) == "non-private"
    noise = torch.Generator().manual_seed(2)
    change(same)
    plain = torch.optim.SGD([w for w in same.parameters() if w.requires_grad], trial.learning_rate)
    (F.cross_entropy(same(images), labels, reduction="sum") / trial.batch_size).backward()
    plain.step()
    engines.build(trial, model, noise=noise).step(images, labels)
    torch.testing.assert_close(weights(model), weights(same), rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(engines.forward(model)(images), model(images))


@pytest.mark.parametrize("name", ["forward hook", "weight's hook"])
def test_hooks_that_our_private_engines_would_pass_over_are_refused(name: str) -> None:
    model = tutorial_cnn(seed=1, device="cpu")
    CHANGES[name](model)
    with pytest.raises(BadInput, match=r"bookkeeping engine .* hooks"):
        engines.build(make_trial("fused"), model, noise=torch.Generator())


@pytest.mark.parametrize("name", ["forward hook", "weight's hook", "frozen weight"])
def test_what_a_stack_would_pass_over_is_refused(name: str) -> None:
    trial = make_trial("fused")
    noise = torch.Generator().manual_seed(2)
    plain, model = (tutorial_cnn(seed=1, device="cpu") for _ in range(2))
    CHANGES[name](model)
    with pytest.raises(BadInput, match=r"Stacked trials .* (hooks|frozen)"):
        engines.build_stack(
            [trial, trial], [plain, model], noise=[noise, noise], physical_batch_size=None
        )


def test_evaluation_is_the_kernels_whatever_engine_trains() -> None:
    for name in engines.names():
        model, _ = build(make_trial(name))
        assert isinstance(engines.forward(model), fused.Forward), name


def test_a_model_that_is_not_known_is_not_another(digits: Data) -> None:
    trial = make_trial("fused", model="resnet-50")
    with pytest.raises(BadInput, match="Unknown model 'resnet-50'"):
        next(loop.train(trial, digits))


def test_the_compiled_forward_pass_gives_the_models_logits(digits: Data) -> None:
    model = tutorial_cnn(seed=3, device="cpu").to(memory_format=torch.channels_last)
    images = digits.prepared(digits.test[0])
    with torch.no_grad():
        expected = model(images)
        assert torch.allclose(engines.forward(model)(images), expected, atol=1e-5)
        model.get_parameter("0.weight").mul_(2)  # the weights that it has now
        assert torch.allclose(engines.forward(model)(images), model(images), atol=1e-5)
        assert not torch.allclose(model(images), expected, atol=1e-2)
    other = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    assert engines.forward(other) is other
    tanh = models.build("tanh-cnn", "digits", seed=3, device="cpu")
    assert isinstance(engines.forward(tanh), fused.Forward)
    with torch.no_grad():
        assert torch.allclose(engines.forward(tanh)(images), tanh(images), atol=1e-6)


def test_the_compiled_tanh_is_that_of_numpy() -> None:
    sizes = np.geomspace(1e-30, 30, 1 << 14)
    ends = [0.0] * 13 + [np.nan, np.inf, -np.inf]
    values = np.concatenate([sizes, -sizes, ends]).astype(np.float32)
    expected = np.tanh(values.astype(np.float64))
    kernel.squash(kernel.TutorialCnn(), values)  # ReLU leaves them
    assert values[0] == np.float32(sizes[0])
    kernel.squash(kernel.TanhCnn(), values)
    np.testing.assert_allclose(values, expected, rtol=5e-7)


def cache_of_a_new_process(**environment: str) -> list[str]:
    """How often it finds the compiled kernel in the cache, and how often it does not."""
    code = (
        "from dpbench import engines; from dpbench.engines.fused import kernel;"
        "engines.prepare();"
        "stats = kernel.clipped_sum.stats;"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_the_kernel_that_is_compiled_here_is_found_by_another_process() -> None:
    engines.prepare()
    assert cache_of_a_new_process() == ["1", "0"]


@pytest.mark.slow  # above, it is compiled by whichever process comes first
def test_the_kernel_is_compiled_once_per_machine(tmp_path: Path) -> None:
    cache = str(tmp_path)
    assert cache_of_a_new_process(NUMBA_CACHE_DIR=cache) == ["0", "1"]
    assert cache_of_a_new_process(NUMBA_CACHE_DIR=cache) == ["1", "0"]


def test_the_kernel_says_of_which_simd_it_is_made() -> None:
    """Else numba would go on with what it has compiled of another simd.py."""
    source = Path(simd.__file__).read_bytes()
    assert hashlib.sha256(source).hexdigest() == kernel.SIMD_SHA256, "change it there, too"


@pytest.mark.parametrize(
    "place",
    ["here.trials_here()", pytest.param("nullcontext()", marks=pytest.mark.slow)],
    ids=["in one process", "in a worker process"],
)
def test_where_numba_is_missing_bookkeeping_takes_its_place(place: str, tmp_path: Path) -> None:
    """The rows say so."""
    (tmp_path / "numba.py").write_text("raise ImportError('no numba here')", encoding="utf-8")
    code = (
        "from contextlib import nullcontext; from pathlib import Path\n"
        "import here; from factories import make_trial\n"
        "from dpbench.execution import backend, local\n"
        "there = backend.Workers(data_root=Path('unused'), devices=('cpu',), jobs=1, threads=1,\n"
        "    physical_batch_size=256)\n"
        "trials = [make_trial('fused'), make_trial('fused-non-private')]\n"
        f"with {place}:\n"
        "  for (row,) in local.run(trials, there): print(row['engine'], row['implementation'])\n"
    )
    path = os.pathsep.join([str(tmp_path), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no numba here" in done.stderr
    said = "fused bookkeeping\nfused-non-private non-private\n"
    assert done.stdout == said


@pytest.mark.parametrize(
    "name",
    [name for name, _ in tutorial_cnn(seed=0, device="cpu").named_parameters()],
)
@pytest.mark.parametrize("network", ["tutorial-cnn", "tanh-cnn"])
def test_a_weight_that_is_no_number_shows_in_the_compiled_logits(
    network: str, name: str, digits: Data
) -> None:
    model = models.build(network, "digits", seed=3, device="cpu")
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = float("nan")
    images = digits.prepared(digits.test[0][:20])
    assert engines.forward(model)(images).isnan().any()
    of_nan = fused.Fused(make_trial("fused"), model, noise=torch.Generator())
    assert of_nan.step(images, digits.test[1][:20]).isnan()


def test_ties_in_max_pooling_are_broken_as_pytorch_does() -> None:
    """On a blank image whole areas tie; the first of them takes the gradient."""
    images, labels = torch.full((3, 1, 28, 28), 0.7), torch.tensor([1, 2, 3])
    trial = make_trial("fused", noise_multiplier=0.0)
    ours = gradient(trial, images, labels)
    opacus = gradient(make_trial("opacus-hooks", noise_multiplier=0.0), images, labels)
    assert (ours - opacus).norm() < 1e-5 * opacus.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("engine", engines.names())
def test_on_cuda_a_step_without_noise_is_that_of_the_cpu(engine: str, digits: Data) -> None:
    images, labels = batch(digits, 50)
    changed = {} if engine in engines.non_private_names() else {"noise_multiplier": 0.0}
    trial = make_trial(engine, **changed)
    on_cpu = gradient(trial, images, labels)
    model = tutorial_cnn(seed=1, device="cuda")
    stepper = engines.build(trial, model, noise=torch.Generator("cuda").manual_seed(2))
    before = weights(model)
    stepper.step(images.cuda(), labels.cuda())
    on_cuda = (before - weights(model)).cpu() * trial.batch_size / trial.learning_rate
    assert (on_cuda - on_cpu).norm() < 1e-3 * on_cpu.norm()


def test_a_convolution_of_one_channel_computes_in_the_layout() -> None:
    """Strides of one channel are ambiguous: by the wrong ones a step takes 1.6 times as long."""
    model = models.build("tutorial-cnn", "digits", seed=0, device="cpu")
    layout.arrange(model, "channels_last")
    activations = next(model.children())(torch.zeros(2, 1, 28, 28))
    assert activations.is_contiguous(memory_format=torch.channels_last)
    assert not activations.is_contiguous()
