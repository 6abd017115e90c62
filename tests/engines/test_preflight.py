"""The preflight refuses what is wrong, by name, and lets pass what is right."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from factories import make_trial, tutorial_cnn
from torch import Tensor, nn

from bench import layers_table
from dpbench import clipping, engines
from dpbench.engines.preflight import Preflight, cross_entropy, preflight, stepping
from dpbench.errors import BadInput
from dpbench.trial import Trial

INPUTS = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))


@pytest.mark.parametrize("case", layers_table.CASES)
def test_readme_says_what_the_preflight_finds(case: str) -> None:
    """`python -m bench.layers_table --write` puts the table there."""
    written = layers_table.README.read_text(encoding="utf-8").splitlines()
    assert [each for each in written if each.startswith(f"| {case} |")] == [layers_table.line(case)]


def test_readme_has_no_other_lines_and_can_be_written_again() -> None:
    written = layers_table.README.read_text(encoding="utf-8")
    start = written.index("| layer | ")
    table = written[start:].split("\n\n")[0]
    assert len(table.splitlines()) == 2 + len(layers_table.CASES)
    assert layers_table.readme_with(table) == written


# A plain engine, and one for each thing that an engine can get wrong


class Loop:
    """The right step, by a loop over single examples."""

    def __init__(self, trial: Trial, model: nn.Module) -> None:
        assert trial.max_grad_norm is not None
        self.trial, self.model, self.bound = trial, model, trial.max_grad_norm

    def gradients(self, inputs: Tensor, targets: Tensor) -> list[Tensor]:
        """Of the examples, one parameter after another: [B, ...]."""
        parameters = list(self.model.parameters())
        rows = [
            torch.autograd.grad(cross_entropy(self.model(one[None]), to[None]).sum(), parameters)
            for one, to in zip(inputs, targets, strict=True)
        ]
        if not rows:
            return [each.new_zeros(0, *each.shape) for each in parameters]
        return [torch.stack(each) for each in zip(*rows, strict=True)]

    def factors(self, norms: Tensor) -> Tensor:
        return clipping.spec(self.trial.clipping).factors(norms, self.bound)

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        found = self.gradients(inputs, targets)
        norms = torch.cat([each.flatten(1) for each in found], dim=1).norm(dim=1)
        factors = self.factors(norms)
        with torch.no_grad():
            for parameter, each in zip(self.model.parameters(), found, strict=True):
                total = torch.einsum("b,b...->...", factors, each)
                parameter.sub_(self.trial.learning_rate * total / self.divisor(len(targets)))
        return torch.zeros(())

    def divisor(self, _examples: int) -> int:
        return self.trial.batch_size


class ClipsToTwice(Loop):
    def factors(self, norms: Tensor) -> Tensor:
        return (2 * self.bound / norms).clamp(max=1)


class ClipsByTheNextExamplesNorm(Loop):
    def factors(self, norms: Tensor) -> Tensor:
        return super().factors(norms.roll(1))


class DoesNotClip(Loop):
    def factors(self, norms: Tensor) -> Tensor:
        return torch.ones_like(norms)


class ClipsAlways(Loop):
    """Short gradients, too, are scaled to the bound."""

    def factors(self, norms: Tensor) -> Tensor:
        scaled: Tensor = self.bound / norms
        return scaled


class DividesByTheRealBatch(Loop):
    def divisor(self, examples: int) -> int:
        return max(1, examples)


class LosesTheLast(Loop):
    def gradients(self, inputs: Tensor, targets: Tensor) -> list[Tensor]:
        kept = max(1, len(targets) - 1) if len(targets) else 0
        return super().gradients(inputs[:kept], targets[:kept])


class MixesExamples(Loop):
    def gradients(self, inputs: Tensor, targets: Tensor) -> list[Tensor]:
        found = super().gradients(inputs, targets)
        return [each + 0.001 * each.sum(0) for each in found]


class WrongInOneBias(Loop):
    def gradients(self, inputs: Tensor, targets: Tensor) -> list[Tensor]:
        found = super().gradients(inputs, targets)
        trained = [each.requires_grad for each in self.model.parameters()]
        return [*found[:3], found[3] * 1.01 if trained[3] else found[3]]


class MovesOnNothing(Loop):
    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        if not len(targets):
            inputs, targets = INPUTS[:1], TARGETS[:1]
        return super().step(inputs, targets)


class FailsOnNothing(Loop):
    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        assert max(targets.tolist()) >= 0
        return super().step(inputs, targets)


def used(monkeypatch: pytest.MonkeyPatch, engine: type[Loop]) -> None:
    def build(trial: Trial, model: nn.Module, **_: object) -> Loop:
        return engine(trial, model)

    monkeypatch.setattr(engines, "build", build)


@pytest.mark.parametrize("rule", clipping.names())
def test_a_plain_loop_is_right(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used(monkeypatch, Loop)
    checked = Preflight(dense, INPUTS, TARGETS)
    assert checked.refusal(make_trial("bookkeeping", clipping=rule)) is None


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (ClipsToTwice, "gets the clipped sum wrong by"),
        (ClipsByTheNextExamplesNorm, "gets the clipped sum wrong by"),
        (DoesNotClip, "gets the clipped sum wrong by"),
        (ClipsAlways, "gets the clipped sum wrong by"),
        (DividesByTheRealBatch, "gets the clipped sum wrong by"),
        (LosesTheLast, "gets the clipped sum wrong by"),
        (MixesExamples, "gets the clipped sum wrong by"),
        (WrongInOneBias, "gets the clipped sum wrong by"),
        (MovesOnNothing, "on an empty batch"),
        (FailsOnNothing, r"fails on an empty batch \(ValueError: max\(\)"),
    ],
)
def test_a_wrong_engine_is_caught(
    engine: type[Loop], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(monkeypatch, engine)
    with pytest.raises(BadInput, match=said):
        preflight(make_trial("bookkeeping"), dense, INPUTS, TARGETS)


def test_the_clipping_bound_binds_for_some_examples_and_not_for_others() -> None:
    norms = torch.tensor([3.0, 0.1, 2.0, 5.0, 4.0])
    bound = stepping.binding(norms)
    assert 0 < (norms > bound).sum() < len(norms)
    assert stepping.binding(torch.zeros(5)) > 0
    assert 0 < stepping.binding(torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])) < 1


# The words


@pytest.mark.parametrize(
    ("case", "engine", "said"),
    [
        ("BatchNorm", "opacus-hooks", r"layer '1' \(BatchNorm2d\) mixes .*; use GroupNorm"),
        ("BatchNorm without weights", "bookkeeping", r"layer '1' \(BatchNorm2d\) mixes"),
        (
            "InstanceNorm, running statistics",
            "opacus-ew",
            r"layer '1' \(InstanceNorm2d\) keeps in its buffer running_mean .*; set track_running",
        ),
        (
            "attention with batch_first=False",
            "opacus-hooks",
            r"layer '1.self_attn' \(MultiheadAttention\) mixes .*; give it batch_first=True",
        ),
        ("mean over the batch", "opacus-hooks", r"layer '2' \(Centred\) mixes"),
        (
            "nn.LSTM",
            "opacus-hooks",
            r"layer 'layer' \(LSTM\); use opacus.layers.DPLSTM; or use engine=",
        ),
        ("nn.GRU", "opacus-ghost", r"\(GRU\); use opacus.layers.DPGRU"),
        ("nn.MultiheadAttention", "opacus-ew", "use opacus.layers.DPMultiheadAttention"),
        ("nn.TransformerEncoderLayer", "opacus-hooks", "opacus.layers.DPMultiheadAttention"),
        ("in-place ReLU", "opacus-hooks", r"layer '1' \(ReLU\); set inplace=False"),
        (
            "Conv2d, padding_mode 'circular'",
            "opacus-hooks",
            r"wrong by .* %, at layer '0' \(Conv2d\); pad before it.*; or use engine=",
        ),
        ("Conv2d, padding_mode 'circular'", "opacus-ghost", r"layer '0' \(Conv2d\)"),
        ("EmbeddingBag by offsets, a token twice", "opacus-hooks", r"layer 'bag' .*nn.Embedding"),
        ("positions [T], without a batch", "opacus-hooks", r"layer 'position' .*\[B, ...\]"),
    ],
)
def test_a_refusal_is_one_line_with_the_layer_and_the_remedy(
    case: str, engine: str, said: str
) -> None:
    chosen = layers_table.CASES[case]
    torch.manual_seed(0)
    targets = torch.arange(layers_table.EXAMPLES) % 3
    with pytest.raises(BadInput, match=said) as raised:
        preflight(layers_table.trial(engine), chosen.make(), chosen.inputs(), targets)
    assert "\n" not in str(raised.value)


def test_the_fastest_engine_is_the_fastest_of_those_that_are_right() -> None:
    checked = Preflight(dense, INPUTS, TARGETS)
    assert checked.fastest(make_trial("opacus-hooks", model="mlp")) == "bookkeeping"
    mixing = layers_table.preflight("BatchNorm")
    with pytest.raises(BadInput, match="mixes"):
        mixing.fastest(make_trial("opacus-hooks", model="mlp"))


# Random layers


class Noisy(nn.Module):
    """Random in training, without a layer that says so."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + 0.1 * torch.randn_like(inputs)


class Shuffled(nn.Module):
    """Adds another example, at random."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + 0.1 * inputs[torch.randperm(len(inputs))]


def with_layer(layer: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(*dense().children(), layer())


@pytest.mark.parametrize("layer", [nn.Dropout, nn.AlphaDropout, Noisy])
@pytest.mark.parametrize("engine", ["bookkeeping", "opacus-hooks", "opacus-ghost"])
def test_a_random_layer_is_no_error(layer: Callable[[], nn.Module], engine: str) -> None:
    preflight(make_trial(engine, model="mlp"), partial(with_layer, layer), INPUTS, TARGETS)


def test_a_random_layer_that_mixes_is_one() -> None:
    with pytest.raises(BadInput, match=r"layer '3' \(Shuffled\) mixes"):
        preflight(make_trial("opacus-hooks"), partial(with_layer, Shuffled), INPUTS, TARGETS)


def test_nothing_is_left_behind() -> None:
    """Neither the model nor the generator changes, nor a model's dropout."""
    model = with_layer(nn.Dropout)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    preflight(make_trial("opacus-hooks"), model, INPUTS, TARGETS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert model.get_submodule("3").p == 0.5
    assert not model.get_submodule("0")._forward_hooks


# What does not fit


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = dense()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(inputs), inputs


def frozen() -> nn.Module:
    return dense().requires_grad_(requires_grad=False)


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = dense()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs).detach()  # type: ignore[no-any-return]


def mean_loss(output: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(output, target).mean()


def square_loss(output: Tensor, target: Tensor) -> Tensor:
    return (output[:, 0] - target).square()


@pytest.mark.parametrize(
    ("make", "changed", "said"),
    [
        (
            dense,
            {"inputs": INPUTS[:, :5]},
            r"does not take the dataset's inputs, float32 \[5, 5\]: layer '0' \(Linear\): Runtime",
        ),
        (
            dense,
            {"classes": 4},
            r"logits \[5, 4\] for 5 examples of 4 classes, not float32 \[5, 3\]",
        ),
        (dense, {"targets": TARGETS.float()}, r"int64 \[B\], and not float32 .* --loss"),
        (Pair, {}, "to return a tensor, not tuple"),
        (frozen, {}, "weights to train"),
        (Detached, {}, "no gradient"),
        (dense, {"loss": mean_loss}, r"one number an example, \[5\], not float32 \[\]"),
        (
            dense,
            {"loss": nn.MSELoss(reduction="none"), "targets": torch.zeros(6, 2)},
            r"does not take outputs of float32 \[5, 3\] with targets of float32 \[5, 2\]: Runtime",
        ),
    ],
    ids=["inputs", "classes", "targets", "tuple", "frozen", "detached", "mean", "loss"],
)
def test_a_model_that_does_not_fit_is_refused(
    make: Callable[[], nn.Module], changed: dict[str, object], said: str
) -> None:
    given = {"inputs": INPUTS, "targets": TARGETS} | changed
    with pytest.raises(BadInput, match=said) as raised:
        Preflight(make, **given)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_a_loss_of_numbers_fits() -> None:
    """The engines have cross entropy, and are seen to have another loss."""
    checked = Preflight(dense, INPUTS, TARGETS.float(), loss=square_loss)
    assert checked.of_model is None


def test_a_layer_that_starts_at_zero_hides_no_other() -> None:
    """Its gradient by what it is given is zero at first, and with it those of earlier layers."""

    def make() -> nn.Module:
        model = layers_table.CASES["Conv2d, padding_mode 'circular'"].make()
        nn.init.zeros_(model.get_parameter("4.weight"))
        return model

    inputs = layers_table.CASES["Conv2d"].inputs()
    with pytest.raises(BadInput, match=r"layer '0' \(Conv2d\)"):
        preflight(layers_table.trial("opacus-hooks"), make, inputs, TARGETS[:5])


@pytest.mark.parametrize("engine", engines.names())
def test_every_engine_is_right_for_the_tutorials_model(engine: str) -> None:
    images = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    preflight(
        make_trial(engine), partial(tutorial_cnn, seed=0, device="cpu"), images, torch.arange(5)
    )
