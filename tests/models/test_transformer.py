from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import make_trial
from torch import nn

from dpbench import models
from dpbench.datasets import loading
from dpbench.models.attention_layers import Layer
from dpbench.training import loop


def test_engines_know_its_layers() -> None:
    model = models.spec("transformer").build((12,), 3, seed=0, vocabulary=50)
    own = {type(each) for each in model.modules() if list(each.parameters(recurse=False))}
    assert own == {nn.Embedding, nn.LayerNorm, nn.Linear}
    tokens = torch.randint(0, 50, (4, 12))
    assert model(tokens).shape == (4, 3)
    # it is told positions: the same tokens in another order are another sequence
    assert not torch.allclose(model(tokens), model(tokens.flip(1)))


def test_its_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    layer = Layer(64, 4, 8)
    theirs = nn.MultiheadAttention(64, 4, batch_first=True)
    theirs.in_proj_weight.data.copy_(layer.projections.weight.data)
    theirs.in_proj_bias.data.copy_(layer.projections.bias.data)
    theirs.out_proj.load_state_dict(layer.output.state_dict())
    embedded = torch.randn(2, 7, 64)
    expected, _ = theirs(embedded, embedded, embedded, need_weights=False)
    torch.testing.assert_close(layer._attention(embedded), expected)
    perceptron = layer.perceptron(layer.perceptron_norm(embedded))
    nn.init.zeros_(layer.output.weight)
    nn.init.zeros_(layer.output.bias)
    torch.testing.assert_close(layer(embedded), embedded + perceptron)


@pytest.mark.parametrize("engine", ["non-private", "opacus-hooks", "opacus-ghost"])
def test_it_trains_on_tokens(engine: str) -> None:
    data = loading.load("digits-tokens", Path("unused"), "cpu")
    few = replace(data, train=(data.train[0][:60], data.train[1][:60]))
    trial = make_trial(engine, dataset="digits-tokens", model="transformer", batch_size=20)
    (seen,) = loop.train(trial, few)
    assert seen.steps == 3
    assert seen.test_loss == pytest.approx(2.3, abs=0.3)  # log(10)
