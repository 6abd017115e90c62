from factories import make_trial

from dpbench import models
from dpbench.datasets import Data
from dpbench.training import loop


def test_it_has_one_hidden_layer() -> None:
    model = models.build("mlp", "mnist", seed=0, device="cpu")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == 784 * 128 + 128 + 128 * 10 + 10


def test_it_learns(digits: Data) -> None:
    *_, last = loop.train(make_trial("non-private", model="mlp", epochs=10), digits)
    assert last.test_accuracy is not None
    assert last.test_accuracy > 0.8
