"""The layers of models against the engines, as the preflight sees them.

    python -m bench.layers_table            prints the table
    python -m bench.layers_table --write    puts it into dpbench/engines/README.md

A test computes each line again and compares.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from opacus.layers import DPGRU, DPLSTM, DPMultiheadAttention
from torch import Tensor, nn

import dpbench
from dpbench import engines
from dpbench.engines.preflight import Preflight
from dpbench.engines.preflight.stepping import Outcome
from dpbench.trial import Trial

README = Path(dpbench.__file__).parent / "engines" / "README.md"
EXAMPLES = 5
TOKENS = 20  # of the vocabulary
RIGHT, REFUSED, WRONG, NOT_PRIVATE = "right", "refused", "**wrong**", "not private"

# Every engine that takes models of any kind; `fused` takes the tutorial's CNN alone
ENGINES = tuple(name for name in engines.private_names() if engines.spec(name).stand_in is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A small model with the layer, and inputs for it: [B, ...] -> [B, 3]."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]


class Recurrent(nn.Module):
    """The last output of a recurrent layer, after an embedding."""

    def __init__(self, layer: Callable[..., nn.Module], **options: object) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 6)
        self.layer = layer(6, 4, batch_first=True, **options)
        self.head = nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.layer(self.embedding(tokens))
        return self.head(outputs[:, -1])  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention after an embedding, and the mean over tokens."""

    def __init__(self, layer: Callable[..., nn.Module], *, batch_first: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 6)
        self.attention = layer(6, 2, batch_first=batch_first)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.embedding(tokens)
        outputs, _ = self.attention(seen, seen, seen)
        return self.head(outputs.mean(1))  # type: ignore[no-any-return]


class MeanOfTokens(nn.Module):
    def forward(self, outputs: Tensor) -> Tensor:
        return outputs.mean(1)


class Bags(nn.Module):
    """Bags of tokens in one flat list, by their offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(TOKENS, 6), nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        offsets = torch.arange(len(tokens), device=tokens.device) * tokens.shape[1]
        return self.head(self.bag(tokens.flatten(), offsets))  # type: ignore[no-any-return]


class Positions(nn.Module):
    """Tokens with learnt positions, whose ids are the same for every example."""

    def __init__(self, *, expanded: bool) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(TOKENS, 6), nn.Embedding(7, 6)
        self.head, self.expanded = nn.Linear(6, 3), expanded

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        places = places.expand_as(tokens) if self.expanded else places
        seen = torch.tanh(self.token(tokens) + self.position(places))
        return self.head(seen.mean(1))  # type: ignore[no-any-return]


class Scaled(nn.Module):
    """A bare parameter: a gain and a shift of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.shift = (nn.Parameter(torch.zeros(channels, 1, 1)) for _ in range(2))

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * (1 + self.gain) + self.shift


class Standardised(nn.Conv2d):
    """Weight standardisation."""

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.flatten(1).std(1)[:, None, None, None] + 1e-5)
        return F.conv2d(inputs, weight, self.bias, padding=1)


class ChannelsLast(nn.Module):
    def forward(self, outputs: Tensor) -> Tensor:
        return outputs.contiguous(memory_format=torch.channels_last)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.inner(inputs)  # type: ignore[no-any-return]


class Centred(nn.Module):
    """Subtracts the mean of the batch, in a function and not in a layer."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(0)


def _draws() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _features() -> Tensor:
    return torch.randn(EXAMPLES, 8, generator=_draws())


def _signals() -> Tensor:
    return torch.randn(EXAMPLES, 4, 9, generator=_draws())


def _images() -> Tensor:
    return torch.randn(EXAMPLES, 4, 6, 6, generator=_draws())


def _volumes() -> Tensor:
    return torch.randn(EXAMPLES, 4, 4, 4, 4, generator=_draws())


def _tokens() -> Tensor:
    """With repeats in each example."""
    return torch.randint(0, TOKENS // 3, (EXAMPLES, 7), generator=_draws())


def _of_features(*layers: nn.Module, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), *layers, nn.Linear(width, 3))


def _of_images(*layers: nn.Module, channels: int = 4) -> nn.Module:
    return nn.Sequential(
        *layers, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3)
    )


def _after_conv(*layers: nn.Module, channels: int = 4) -> nn.Module:
    return _of_images(nn.Conv2d(4, 4, 3, padding=1), *layers, channels=channels)


def _frozen() -> nn.Module:
    model = _of_features(nn.Linear(8, 8), nn.Tanh())
    model.get_submodule("2").requires_grad_(requires_grad=False)
    return model


def _frozen_batch_norm() -> nn.Module:
    model = _after_conv(nn.BatchNorm2d(4))
    model.get_submodule("1").requires_grad_(requires_grad=False).eval()
    return model


def _tied() -> nn.Module:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    return _of_features(first, nn.Tanh(), second)


def _twice() -> nn.Module:
    layer = nn.Linear(8, 8)
    return _of_features(layer, nn.Tanh(), layer)


def _transformer(*, batch_first: bool = True) -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=batch_first)
    return nn.Sequential(nn.Embedding(TOKENS, 6), layer, MeanOfTokens(), nn.Linear(6, 3))


CASES: Mapping[str, Case] = {
    "Linear on [B, d]": Case(make=_of_features, inputs=_features),
    "Linear on [B, T, d]": Case(
        make=lambda: nn.Sequential(nn.Linear(9, 6), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3)),
        inputs=_signals,
    ),
    "Conv1d, dilated": Case(
        make=lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, dilation=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(42, 3)
        ),
        inputs=_signals,
    ),
    "Conv2d": Case(make=_after_conv, inputs=_images),
    "Conv2d, strided, in groups": Case(
        make=lambda: _after_conv(nn.Conv2d(4, 6, 3, stride=2, groups=2), channels=6),
        inputs=_images,
    ),
    "Conv2d, padding 'same'": Case(
        make=lambda: _of_images(nn.Conv2d(4, 4, (3, 2), padding="same")), inputs=_images
    ),
    "Conv2d, padding_mode 'circular'": Case(
        make=lambda: _of_images(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
        inputs=_images,
    ),
    "Conv2d, padding_mode 'reflect'": Case(
        make=lambda: _of_images(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
        inputs=_images,
    ),
    "Conv2d on channels_last activations": Case(
        make=lambda: _of_images(
            nn.Conv2d(4, 6, 3), ChannelsLast(), nn.Tanh(), nn.Conv2d(6, 4, 3, padding=1)
        ),
        inputs=_images,
    ),
    "Conv3d": Case(
        make=lambda: nn.Sequential(nn.Conv3d(4, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(108, 3)),
        inputs=_volumes,
    ),
    "ConvTranspose2d": Case(
        make=lambda: _after_conv(nn.ConvTranspose2d(4, 4, 2, stride=2)), inputs=_images
    ),
    "weight standardisation": Case(make=lambda: _after_conv(Standardised(4, 4, 3)), inputs=_images),
    "GroupNorm": Case(make=lambda: _after_conv(nn.GroupNorm(2, 4)), inputs=_images),
    "LayerNorm": Case(make=lambda: _of_features(nn.LayerNorm(8)), inputs=_features),
    "InstanceNorm": Case(
        make=lambda: _after_conv(nn.InstanceNorm2d(4, affine=True)), inputs=_images
    ),
    "RMSNorm": Case(make=lambda: _of_features(nn.RMSNorm(8)), inputs=_features),
    "Embedding": Case(
        make=lambda: nn.Sequential(nn.Embedding(TOKENS, 6), MeanOfTokens(), nn.Linear(6, 3)),
        inputs=_tokens,
    ),
    "positions [T], without a batch": Case(make=lambda: Positions(expanded=False), inputs=_tokens),
    "positions, expanded to [B, T]": Case(make=lambda: Positions(expanded=True), inputs=_tokens),
    "EmbeddingBag by offsets, a token twice": Case(make=Bags, inputs=_tokens),
    "EmbeddingBag on [B, T], a token twice": Case(
        make=lambda: nn.Sequential(nn.EmbeddingBag(TOKENS, 6), nn.Linear(6, 3)), inputs=_tokens
    ),
    "PReLU": Case(make=lambda: _after_conv(nn.PReLU(4)), inputs=_images),
    "bare nn.Parameter": Case(make=lambda: _after_conv(Scaled(4)), inputs=_images),
    "weight_norm": Case(
        make=lambda: _of_features(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))),
        inputs=_features,
    ),
    "frozen layer": Case(make=_frozen, inputs=_features),
    "two layers of one weight": Case(make=_tied, inputs=_features),
    "one layer called twice": Case(make=_twice, inputs=_features),
    "residual": Case(
        make=lambda: _of_features(Residual(nn.Sequential(nn.Linear(8, 8), nn.Tanh()))),
        inputs=_features,
    ),
    "Dropout": Case(make=lambda: _of_features(nn.Dropout(0.3)), inputs=_features),
    "in-place ReLU": Case(make=lambda: _after_conv(nn.ReLU(inplace=True)), inputs=_images),
    "DPLSTM": Case(make=lambda: Recurrent(DPLSTM), inputs=_tokens),
    "DPGRU": Case(make=lambda: Recurrent(DPGRU), inputs=_tokens),
    "DPMultiheadAttention": Case(make=lambda: Attention(DPMultiheadAttention), inputs=_tokens),
    "nn.LSTM": Case(make=lambda: Recurrent(nn.LSTM), inputs=_tokens),
    "nn.GRU": Case(make=lambda: Recurrent(nn.GRU), inputs=_tokens),
    "nn.MultiheadAttention": Case(make=lambda: Attention(nn.MultiheadAttention), inputs=_tokens),
    "nn.TransformerEncoderLayer": Case(make=_transformer, inputs=_tokens),
    "BatchNorm, frozen and in eval": Case(make=_frozen_batch_norm, inputs=_images),
    "BatchNorm": Case(make=lambda: _after_conv(nn.BatchNorm2d(4)), inputs=_images),
    "BatchNorm without weights": Case(
        make=lambda: _after_conv(nn.BatchNorm2d(4, affine=False)), inputs=_images
    ),
    "InstanceNorm, running statistics": Case(
        make=lambda: _after_conv(nn.InstanceNorm2d(4, track_running_stats=True)), inputs=_images
    ),
    "attention with batch_first=False": Case(
        make=lambda: _transformer(batch_first=False), inputs=_tokens
    ),
    "mean over the batch": Case(make=lambda: _of_features(Centred()), inputs=_features),
}


def trial(engine: str) -> Trial:
    """Any trial of the engine."""
    return Trial(
        dataset="digits",
        model="bench",
        engine=engine,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        delta=1e-5,
        batch_size=64,
        learning_rate=0.1,
        epochs=1,
    )


def preflight(case: str) -> Preflight:
    """Of the case's model."""
    torch.manual_seed(0)
    targets = torch.arange(EXAMPLES) % 3
    return Preflight(CASES[case].make(), CASES[case].inputs(), targets)


def verdicts(case: str) -> list[str]:
    """Of each engine, in a word."""
    checked = preflight(case)
    if checked.of_model is not None:
        return [NOT_PRIVATE] * len(ENGINES)
    return [_verdict(checked.outcome(trial(engine))) for engine in ENGINES]


def _verdict(outcome: Outcome | None) -> str:
    if outcome is None:
        return RIGHT
    return WRONG if outcome.raised is None else REFUSED


def line(case: str) -> str:
    """The table's line for the layer."""
    return f"| {case} | {' | '.join(verdicts(case))} |"


def table() -> str:
    """All lines, with their header."""
    header = f"| layer | {' | '.join(f'`{engine}`' for engine in ENGINES)} |"
    return "\n".join([header, "|---" * (len(ENGINES) + 1) + "|", *map(line, CASES)])


def readme_with(new: str) -> str:
    """README's text with this table in place of its own."""
    before, _, rest = README.read_text(encoding="utf-8").partition("| layer | ")
    lines = ("| layer | " + rest).splitlines(keepends=True)
    after = next(index for index, each in enumerate(lines) if not each.startswith("|"))
    return before + new + "\n" + "".join(lines[after:])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.layers_table", description=__doc__)
    parser.add_argument("--write", action="store_true", help="into dpbench/engines/README.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    made = table()
    print(made)
    if given.write:
        README.write_text(readme_with(made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
