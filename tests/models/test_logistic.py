from torch import nn

from dpbench import models


def test_it_is_one_linear_layer_on_all_inputs() -> None:
    model = models.build("logistic", "breast-cancer", seed=0, device="cpu")
    (layer,) = (each for each in model.modules() if list(each.parameters(recurse=False)))
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features) == (30, 2)
