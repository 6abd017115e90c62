import pytest
import torch
from torch import nn

from dpbench import models
from dpbench.models.residual_layers import Block


def test_it_is_the_cifar_resnet_with_group_norm() -> None:
    model = models.spec("resnet-gn").build((3, 32, 32), 10, seed=0)
    convolutions = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
    assert len(convolutions) == 1 + 3 * 2 * 2 + 2  # two shortcuts change shape
    assert sum(isinstance(each, nn.GroupNorm) for each in model.modules()) == 1 + 3 * 2 * 2
    assert not any(isinstance(each, nn.BatchNorm2d) for each in model.modules())
    parameters = sum(each.numel() for each in model.parameters())
    weights = 9 * (3 * 16 + 4 * 16**2 + 16 * 32 + 3 * 32**2 + 32 * 64 + 3 * 64**2)
    norms = 2 * (5 * 16 + 4 * 32 + 4 * 64)
    assert parameters == weights + 16 * 32 + 32 * 64 + norms + 64 * 10 + 10


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48), (3, 9, 9)])
def test_it_takes_images_of_any_size(shape: tuple[int, ...]) -> None:
    model = models.spec("resnet-gn").build(shape, 5, seed=0)
    assert model(torch.zeros(2, *shape)).shape == (2, 5)


def test_a_block_without_residual_is_its_shortcut() -> None:
    block = Block(16, 16, 1)
    images = torch.rand(2, 16, 4, 4)
    norm = block.residual[-1]
    assert isinstance(norm, nn.GroupNorm)
    nn.init.zeros_(norm.weight)
    assert torch.equal(block(images), images)
