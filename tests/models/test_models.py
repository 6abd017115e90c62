import itertools

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dpbench import datasets, models
from dpbench.datasets import loading
from dpbench.errors import BadInput


def refused(model: str, dataset: str) -> str | None:
    data = datasets.spec(dataset)
    return models.spec(model).refuses(data.input_shape, data.classes, vocabulary=data.vocabulary)


PAIRS = list(itertools.product(models.names(), datasets.names()))
ALLOWED = [pair for pair in PAIRS if refused(*pair) is None]


def batch(model: str, dataset: str, size: int) -> torch.Tensor:
    """Random inputs of the dataset, as the model takes them."""
    inputs, _ = models.taken(model, loading.random(dataset, size, "cpu")).batch(torch.arange(size))
    return inputs


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def test_each_dataset_has_a_model_and_each_model_a_dataset() -> None:
    assert {model for model, _ in ALLOWED} == set(models.names())
    assert {dataset for _, dataset in ALLOWED} == set(datasets.names())


@pytest.mark.parametrize(("model", "dataset"), ALLOWED)
def test_a_model_takes_the_datasets_batches(model: str, dataset: str) -> None:
    built = models.build(model, dataset, seed=0, device="cpu")
    inputs = batch(model, dataset, 3)
    logits = built(inputs)
    assert logits.shape == (3, datasets.spec(dataset).classes)
    assert logits.dtype == torch.float32
    for each, expected in zip(inputs, logits, strict=True):  # no example changes another's
        torch.testing.assert_close(built(each[None])[0], expected, rtol=1e-4, atol=1e-5)
    assert built(inputs[:0]).shape == (0, datasets.spec(dataset).classes)
    assert built.training


@pytest.mark.parametrize(("model", "dataset"), ALLOWED)
def test_multiply_adds_are_those_that_torch_counts(model: str, dataset: str) -> None:
    multiply_adds, data = models.spec(model).multiply_adds, datasets.spec(dataset)
    if multiply_adds is None:
        return
    built = models.build(model, dataset, seed=0, device="cpu")
    inputs = batch(model, dataset, 1)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        built(inputs)
    counted = counter.get_total_flops() // 2  # an addition and a multiplication each
    assert multiply_adds(data.input_shape, data.classes) == counted


@pytest.mark.parametrize(("model", "dataset"), ALLOWED)
def test_initial_weights_are_the_seeds(model: str, dataset: str) -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first, same, other = (models.build(model, dataset, seed=s, device="cpu") for s in (5, 5, 6))
    assert torch.equal(torch.rand(2), expected)  # nobody else's random numbers have changed
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize(("model", "dataset"), sorted(set(PAIRS) - set(ALLOWED)))
def test_a_model_that_cannot_take_the_inputs_says_which_it_takes(model: str, dataset: str) -> None:
    shape = " x ".join(map(str, datasets.spec(dataset).input_shape))
    message = f"Cannot train model={model} on dataset={dataset}: it takes .* not .*{shape}.*\\."
    with pytest.raises(BadInput, match=message):
        models.build(model, dataset, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("model", "dataset", "message"),
    [
        ("tutorial-cnn", "breast-cancer", "takes inputs of 1 x 28 x 28, not 30"),
        ("resnet-gn", "breast-cancer", "takes images, channels x height x width, not inputs of 30"),
        ("transformer", "breast-cancer", "takes token ids, not numbers of 30"),
        ("mlp", "digits-tokens", "takes numbers, not the token ids of inputs of 64"),
    ],
)
def test_tables_and_tokens_have_models_of_their_own(model: str, dataset: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as found:
        models.refuse(model, dataset)
    assert len(str(found.value).splitlines()) == 1


def test_the_tutorials_cnn_takes_its_own_images_alone() -> None:
    spec = models.spec("tutorial-cnn")
    assert spec.refusal((1, 28, 28), 10) is None
    with pytest.raises(BadInput, match="takes inputs of 1 x 28 x 28, not 3 x 32 x 32"):
        spec.build((3, 32, 32), 10, seed=0)


def test_a_model_that_is_not_known_is_named() -> None:
    with pytest.raises(BadInput, match=r"Unknown model 'tutorial-cn': did you mean tutorial-cnn\?"):
        models.build("tutorial-cn", "mnist", seed=0, device="cpu")
