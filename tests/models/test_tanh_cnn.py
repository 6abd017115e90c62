import pytest

from dpbench import models


# Parameters of the models of github.com/ftramer/Handcrafted-DP, models.py
@pytest.mark.parametrize(
    ("input_shape", "expected"), [((1, 28, 28), 26_010), ((3, 32, 32), 550_570)]
)
def test_it_has_the_published_number_of_parameters(
    input_shape: tuple[int, ...], expected: int
) -> None:
    model = models.spec("tanh-cnn").build(input_shape, 10, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
