"""A transformer encoder of two layers that classifies sequences of tokens (Vaswani et al. 2017).

Embeddings of 64 numbers, four heads, perceptrons of 256 units, LayerNorm before each part (Xiong et
al. 2020), and the mean over the tokens before the last layer.
"""

from typing import TYPE_CHECKING

from dpbench.models.model_spec import ModelSpec, Shape

if TYPE_CHECKING:
    from torch import nn

LAYERS, WIDTH, HEADS, HIDDEN = 2, 64, 4, 256


def _token_layers(length: int, vocabulary: int, classes: int) -> "nn.Sequential":
    from torch import nn

    from dpbench.models.attention_layers import Layer, Mean, Tokens

    return nn.Sequential(
        Tokens(length, vocabulary, WIDTH),  # [B, T] -> [B, T, 64]
        *(Layer(WIDTH, HEADS, HIDDEN) for _ in range(LAYERS)),
        nn.LayerNorm(WIDTH),
        Mean(),  # -> [B, 64]
        nn.Linear(WIDTH, classes),
    )


def _multiply_adds(input_shape: Shape, classes: int) -> int:
    """Those of the products of queries with keys and of weights with values among them."""
    (length,) = input_shape
    linear = 4 * WIDTH**2 + 2 * WIDTH * HIDDEN
    return LAYERS * (length * linear + 2 * length**2 * WIDTH) + WIDTH * classes


def _refusal(input_shape: Shape, _classes: int) -> str | None:
    if len(input_shape) == 1:
        return None
    return f"it takes sequences of tokens, not inputs of {len(input_shape)} dimensions"


SPEC = ModelSpec(
    title="the transformer",
    token_layers=_token_layers,
    multiply_adds=_multiply_adds,
    refusal=_refusal,
)
