"""Bookkeeping's clipped sum for every kind of layer, against a loop over examples in float64."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from factories import make_trial
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dpbench import clipping, engines
from dpbench.engines.bookkeeping import convolutions
from dpbench.errors import BadInput

EXAMPLES, CLASSES = 6, 3
Cases = dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]]


class Model(nn.Module):
    """A user's module: what it computes is a function of it and its inputs."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self._computes = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs: Tensor) -> Tensor:
        return self._computes(self, inputs)


def chain(*layers: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, CLASSES))


def tied_lm() -> nn.Module:
    table = nn.Embedding(7, 4)
    out = nn.Linear(4, 7, bias=False)
    out.weight = table.weight
    return Model(
        lambda self, x: self.out(torch.tanh(self.mid(self.table(x)))).mean(1)[:, :CLASSES],
        table=table,
        mid=nn.Linear(4, 4),
        out=out,
    )


def tied_linears() -> nn.Module:
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    second.weight = first.weight
    return chain(first, nn.Tanh(), second, features=5)


def twice(layer: nn.Module, *, features: int) -> nn.Module:
    return chain(layer, nn.Tanh(), layer, features=features)


def frozen() -> nn.Module:
    model = nn.Sequential(
        nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, CLASSES)
    )
    model[0].requires_grad_(False)
    model[1].bias.requires_grad_(False)
    model[2].weight.requires_grad_(False)
    return model


def attention(**options: Any) -> nn.Module:
    return Model(
        lambda self, x: self.head(self.attention(x, x, x, need_weights=False)[0].mean(1)),
        attention=nn.MultiheadAttention(4, 2, batch_first=True, **options),
        head=nn.Linear(4, CLASSES),
    )


def class_token() -> nn.Module:
    """Parameters of its own, of which one is used in a sum and one is joined to the inputs."""

    def forward(self: Any, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(x), 1, 4), self.embed(x)], 1) + self.places
        return self.head(self.encoder(tokens)[:, 0])  # type: ignore[no-any-return]

    return Model(
        forward,
        token=nn.Parameter(torch.randn(1, 1, 4)),
        places=nn.Parameter(torch.randn(6, 4)),
        embed=nn.Linear(4, 4),
        encoder=nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        head=nn.Linear(4, CLASSES),
    )


def positions(*, expanded: bool) -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        given = places.expand(len(x), -1) if expanded else places
        return self.head(torch.tanh(self.table(x) + self.places(given)).mean(1))  # type: ignore[no-any-return]

    return Model(
        forward, table=nn.Embedding(7, 4), places=nn.Embedding(5, 4), head=nn.Linear(4, CLASSES)
    )


def borrowed_weight() -> nn.Module:
    """One layer's weight is used by its parent, too, which does not call it."""
    return Model(
        lambda self, x: self.head(F.linear(torch.tanh(self.inner(x)), self.inner.weight.T)),
        inner=nn.Linear(5, 4),
        head=nn.Linear(5, CLASSES),
    )


def standardised() -> nn.Module:
    """Weight standardisation: the convolution's own forward is replaced by a subclass'."""

    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, weight, self.bias)

    return chain(Standardised(2, 3, 3), features=3 * 4 * 4)


def residual() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu_()
        return self.head(self.second(y).add_(y).relu_().flatten(1))  # type: ignore[no-any-return]

    return Model(
        forward,
        first=nn.Conv2d(2, 4, 3, padding=1),
        norm=nn.GroupNorm(2, 4),
        second=nn.Conv2d(4, 4, 3, padding=1),
        head=nn.Linear(4 * 36, CLASSES),
    )


def bag(**options: Any) -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(7, 4, **options), nn.Linear(4, CLASSES))


def tokens(shape: tuple[int, ...] = (5,)) -> Tensor:
    return torch.randint(7, (EXAMPLES, *shape))


def reals(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(EXAMPLES, *shape)


def of_layer(kind: type[nn.Module], options: dict[str, Any]) -> nn.Module:
    """A layer of four channels, behind one with a parameter that its own gradient reaches."""
    return nn.Sequential(nn.PReLU(), kind(4, 6, 3, **options), nn.Flatten(), nn.LazyLinear(CLASSES))


def convolutions_of(
    dimensions: int,
) -> Cases:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    back = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dimensions - 1]
    options: dict[str, dict[str, Any]] = {
        "": {},
        "strided": {"stride": 2, "padding": 1},
        "dilated": {"dilation": 2, "padding": 2},
        "grouped": {"groups": 2, "bias": False},
        "same": {"padding": "same", "dilation": 2},
        "valid": {"padding": "valid"},
        **{
            mode: {"padding": 1, "padding_mode": mode, "stride": 2}
            for mode in ("reflect", "replicate", "circular")
        },
        "same, circular": {"padding": "same", "padding_mode": "circular"},
    }
    sizes = (6, 5, 6)[:dimensions]
    found: Cases = {
        f"Conv{dimensions}d {name}": (partial(of_layer, conv, given), reals(4, *sizes))
        for name, given in options.items()
    }
    transposed: dict[str, dict[str, Any]] = {
        "": {},
        "strided": {"stride": 2, "padding": 1, "output_padding": 1},
        "grouped": {"groups": 2, "dilation": 2, "bias": False},
    }
    return found | {
        f"ConvTranspose{dimensions}d {name}": (partial(of_layer, back, given), reals(4, *sizes))
        for name, given in transposed.items()
    }


CASES: Cases = {
    "Linear": (lambda: chain(nn.Linear(5, 4), nn.Tanh(), features=4), reals(5)),
    "Linear on [B, T, d]": (lambda: chain(nn.Linear(5, 4), features=12), reals(3, 5)),
    "Linear on [B, T, d], by Gram matrices": (
        lambda: chain(nn.Linear(20, 30, bias=False), features=60),
        reals(2, 20),
    ),
    "Linear on [B, S, T, d]": (lambda: chain(nn.Linear(5, 4), features=24), reals(3, 2, 5)),
    **convolutions_of(1),
    **convolutions_of(2),
    **convolutions_of(3),
    "depthwise": (
        lambda: chain(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1), features=2 * 4 * 3),
        reals(4, 6, 5),
    ),
    "Embedding": (lambda: chain(nn.Embedding(7, 4), features=20), tokens),
    "Embedding with padding": (
        lambda: chain(nn.Embedding(7, 4, padding_idx=2), features=20),
        tokens,
    ),
    "Embedding of [B]": (lambda: chain(nn.Embedding(7, 4), features=4), lambda: tokens(())),
    "Embedding of [B, S, T]": (
        lambda: chain(nn.Embedding(7, 4), features=24),
        lambda: tokens((3, 2)),
    ),
    **{
        f"EmbeddingBag {mode}": (partial(bag, mode=mode), tokens) for mode in ("sum", "mean", "max")
    },
    "EmbeddingBag with padding": (lambda: bag(mode="mean", padding_idx=2), tokens),
    "GroupNorm": (
        lambda: chain(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), features=4 * 16),
        reals(2, 6, 6),
    ),
    "GroupNorm on [B, C]": (lambda: chain(nn.GroupNorm(2, 4), features=4), reals(4)),
    "LayerNorm": (lambda: chain(nn.LayerNorm(5), features=15), reals(3, 5)),
    "LayerNorm on [B, d]": (lambda: chain(nn.LayerNorm(5, bias=False), features=5), reals(5)),
    "LayerNorm of two axes": (lambda: chain(nn.LayerNorm((3, 5)), features=30), reals(2, 3, 5)),
    "RMSNorm": (lambda: chain(nn.RMSNorm(5), features=15), reals(3, 5)),
    "InstanceNorm1d": (
        lambda: chain(nn.InstanceNorm1d(3, affine=True), features=15),
        reals(3, 5),
    ),
    "InstanceNorm2d": (
        lambda: chain(nn.InstanceNorm2d(3, affine=True), nn.Tanh(), features=60),
        reals(3, 5, 4),
    ),
    "PReLU": (lambda: chain(nn.PReLU(), features=15), reals(3, 5)),
    "PReLU by channel": (lambda: chain(nn.PReLU(3), features=60), reals(3, 5, 4)),
    "PReLU on [B, d]": (lambda: chain(nn.PReLU(5), features=5), reals(5)),
    "frozen": (frozen, reals(5)),
    "tied Embedding and Linear": (tied_lm, tokens),
    "tied Linear": (tied_linears, reals(5)),
    "called twice": (lambda: twice(nn.Linear(5, 5), features=5), reals(5)),
    "convolution called twice": (
        lambda: twice(nn.Conv2d(2, 2, 3, padding=1), features=32),
        reals(2, 4, 4),
    ),
    "norm called twice": (lambda: twice(nn.LayerNorm(5), features=5), reals(5)),
    "MultiheadAttention": (attention, reals(5, 4)),
    "MultiheadAttention with key and value biases": (
        lambda: attention(add_bias_kv=True),
        reals(5, 4),
    ),
    "class token and TransformerEncoderLayer": (class_token, reals(5, 4)),
    "positions": (lambda: positions(expanded=False), tokens),
    "expanded positions": (lambda: positions(expanded=True), tokens),
    "borrowed weight": (borrowed_weight, reals(5)),
    "weight standardisation": (standardised, reals(2, 6, 6)),
    "weight norm": (
        lambda: chain(parametrizations.weight_norm(nn.Linear(5, 4)), features=4),
        reals(5),
    ),
    "residual, written in place": (residual, reals(2, 6, 6)),
    "Bilinear": (
        lambda: Model(
            lambda self, x: self.mixed(x, torch.tanh(x)), mixed=nn.Bilinear(5, 5, CLASSES)
        ),
        reals(5),
    ),
    "in-place activation": (
        lambda: chain(nn.Linear(5, 6), nn.ReLU(inplace=True), features=6),
        reals(5),
    ),
    "rows as examples": (
        lambda: Model(
            lambda self, x: self.inner(x.reshape(-1, 5)).view(len(x), -1)[:, :CLASSES],
            inner=nn.Linear(5, 4),
        ),
        reals(3, 5),
    ),
}


def example_gradients(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """[B, P] in float64, one example after another, of the parameters that are trained."""
    exact = copy.deepcopy(model).double()
    parameters = [each for each in exact.parameters() if each.requires_grad]
    rows = []
    for one, target in zip(inputs, targets, strict=True):
        given = one[None].double() if one.is_floating_point() else one[None]
        loss = F.cross_entropy(exact(given), target[None])
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([each.reshape(-1) for each in found]))
    return torch.stack(rows)


def trained(model: nn.Module) -> Tensor:
    rows = [each.detach().double().reshape(-1) for each in model.parameters() if each.requires_grad]
    return torch.cat(rows)


def clipped_sum(model: nn.Module, inputs: Tensor, targets: Tensor, **fields: Any) -> Tensor:
    """What one step of bookkeeping without noise takes; the model is moved by it."""
    return taken("bookkeeping", model, inputs, targets, noise_multiplier=0.0, **fields)


def taken(name: str, model: nn.Module, inputs: Tensor, targets: Tensor, **fields: Any) -> Tensor:
    """What one step of the engine takes; the model is moved by it."""
    trial = make_trial(name, learning_rate=1.0, batch_size=1, **fields)
    engine = engines.build(trial, model, noise=torch.Generator(), physical_batch_size=4)
    before = trained(model)
    engine.step(inputs, targets)
    return before - trained(model)


def made(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(4)
    make, draw = CASES[name]
    model, inputs = make(), draw()
    model(inputs)  # lazy layers
    return model, inputs, torch.arange(EXAMPLES) % CLASSES


@pytest.mark.parametrize("rule", clipping.names())
@pytest.mark.parametrize("name", CASES)
def test_the_clipped_sum_is_that_of_a_loop_over_examples(name: str, rule: str) -> None:
    check_clipped_sum(name, rule)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("Conv")])
def test_the_clipped_sum_in_strips_of_an_example_each(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "STRIP_BYTES", 1)
    check_clipped_sum(name, "flat")


def check_clipped_sum(name: str, rule: str) -> None:
    """That one step clips some examples' gradients, and sums them as a loop over them does."""
    model, inputs, targets = made(name)
    gradients = example_gradients(model, inputs, targets)
    norms = gradients.norm(dim=1)
    bound = float(norms.median()) * 1.01
    assert 0 < (norms > bound).sum() < EXAMPLES  # some are clipped, some are not
    expected = clipping.spec(rule).factors(norms, bound) @ gradients
    found = clipped_sum(model, inputs, targets, max_grad_norm=bound, clipping=rule)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_a_step_of_several_chunks_and_an_empty_one_are_whole() -> None:
    model, inputs, targets = made("Linear")
    same = copy.deepcopy(model)
    whole = clipped_sum(model, inputs, targets, max_grad_norm=0.1)
    parts = [
        clipped_sum(copy.deepcopy(same), inputs[part], targets[part], max_grad_norm=0.1)
        for part in (slice(0, 1), slice(1, EXAMPLES), slice(0, 0))
    ]
    torch.testing.assert_close(whole, torch.stack(parts).sum(0))
    assert not parts[2].any()


def test_a_parameter_that_is_not_used_has_no_gradient() -> None:
    model = Model(lambda self, x: self.used(x), used=nn.Linear(5, CLASSES), other=nn.Linear(5, 4))
    moved = clipped_sum(model, torch.randn(EXAMPLES, 5), torch.zeros(EXAMPLES).long())
    assert not moved[-24:].any()
    assert moved[:-24].any()


@pytest.mark.parametrize("places", [2, 3, EXAMPLES])
def test_what_all_examples_share_is_not_taken_for_an_example_each(places: int) -> None:
    """A table of positions read once for all, with as many positions as examples."""
    torch.manual_seed(1)
    model = Model(
        lambda self, x: self.head((x + self.places(torch.arange(places))).tanh().flatten(1)),
        places=nn.Embedding(places, 4),
        head=nn.Linear(4 * places, CLASSES),
    )
    inputs, targets = torch.randn(EXAMPLES, places, 4), torch.arange(EXAMPLES) % CLASSES
    gradients = example_gradients(model, inputs, targets)
    norms = gradients.norm(dim=1)
    bound = float(norms.median())
    expected = clipping.spec("flat").factors(norms, bound) @ gradients
    found = clipped_sum(model, inputs, targets, max_grad_norm=bound)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def with_hook() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, CLASSES))
    model[0].register_forward_hook(lambda _layer, _inputs, output: 2 * output)
    return model


def writes_over() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        features = x * 1
        return self.one(features) + self.other(features.relu_())  # type: ignore[no-any-return]

    return Model(forward, one=nn.Linear(5, CLASSES), other=nn.Linear(5, CLASSES))


def random_function() -> nn.Module:
    return Model(
        lambda self, x: F.dropout(x * self.scale).sum(1, keepdim=True).expand(-1, CLASSES),
        scale=nn.Parameter(torch.ones(5)),
    )


class Depends(nn.Module):
    """Calls a layer once for all examples but a second time for many."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return self.layer(out) if len(x) > 3 else out


@pytest.mark.parametrize(
    ("make", "inputs", "message"),
    [
        (
            lambda: chain(nn.BatchNorm1d(5, affine=False), features=5),
            torch.zeros(4, 5),
            r"BatchNorm1d\(.*\) at 0 mixes examples; use GroupNorm",
        ),
        (
            lambda: chain(nn.InstanceNorm1d(3, affine=True, track_running_stats=True), features=15),
            torch.zeros(4, 3, 5),
            "keeps statistics of all",
        ),
        (
            lambda: Model(
                lambda self, x: self.cells(x)[0][:, -1], cells=nn.LSTM(5, CLASSES, batch_first=True)
            ),
            torch.zeros(4, 3, 5),
            "opacus.layers.DPLSTM",
        ),
        (
            lambda: chain(nn.Embedding(7, 4, max_norm=1.0), features=20),
            torch.zeros(4, 5).long(),
            "leave max_norm out",
        ),
        (
            lambda: chain(nn.Embedding(7, 4, scale_grad_by_freq=True), features=20),
            torch.zeros(4, 5).long(),
            "leave scale_grad_by_freq out",
        ),
        (with_hook, torch.zeros(4, 5), "no layer with hooks"),
        (writes_over, torch.zeros(4, 5), r"writes over what Linear.*inplace=False"),
        (random_function, torch.zeros(4, 5), "random"),
        (Depends, torch.zeros(4, 5), "more often for one batch"),
    ],
    ids=[
        "batch norm",
        "statistics",
        "LSTM",
        "max_norm",
        "by frequency",
        "hook",
        "writes over",
        "random",
        "depends",
    ],
)
def test_what_cannot_be_right_is_refused_by_name_with_a_remedy(
    make: Callable[[], nn.Module], inputs: Tensor, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        clipped_sum(make(), inputs, torch.zeros(len(inputs)).long())


@pytest.mark.parametrize(
    "name", ["Embedding", "Embedding with padding", "tied Embedding and Linear", "frozen"]
)
def test_the_non_private_step_of_tables_is_autograds(name: str) -> None:
    model, inputs, targets = made(name)
    expected = example_gradients(model, inputs, targets).sum(0)
    found = taken("non-private", model, inputs, targets)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_the_non_private_step_sees_that_a_table_is_used_elsewhere() -> None:
    torch.manual_seed(4)
    model = Model(
        lambda self, x: F.linear(self.table(x).mean(1), self.table.weight)[:, :CLASSES],
        table=nn.Embedding(7, 4),
    )
    inputs, targets = tokens(), torch.arange(EXAMPLES) % CLASSES
    expected = example_gradients(model, inputs, targets).sum(0)
    found = taken("non-private", model, inputs, targets)
    assert (found - expected).norm() < 1e-5 * expected.norm()
