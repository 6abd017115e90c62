import pytest
import torch
from torch import Tensor

from dpbench.models import scattering

# Kymatio 0.3.0, Scattering2D(J=2, shape=(28, 32)), of the image below: channel -> its mean
KYMATIO = {
    0: 0.108652,
    1: 0.147058,
    4: 0.19838,
    8: 0.0813322,
    9: 0.15346,
    12: 0.260148,
    16: 0.104618,
    17: 0.00893457,
    30: 0.0156963,
    52: 0.00848794,
    80: 0.00467723,
}


def image() -> Tensor:
    rows, columns = torch.arange(28.0)[:, None], torch.arange(32.0)
    return (torch.sin(0.9 * rows + 0.4 * columns) + torch.cos(0.05 * rows * columns))[None, None]


def test_it_agrees_with_kymatio() -> None:
    scattered = scattering.scatter(image())[0]
    found = {channel: float(scattered[channel].mean()) for channel in KYMATIO}
    assert found == pytest.approx(KYMATIO, rel=1e-4, abs=1e-6)


def test_an_mnist_image_has_81_channels_of_7_x_7() -> None:
    scattered = scattering.scatter(torch.rand(3, 1, 28, 28))
    assert scattered.shape == (3, 81, 7, 7)
    assert scattering.scatter(torch.rand(2, 3, 32, 32)).shape == (2, 243, 8, 8)
    assert scattering.scatter(torch.rand(0, 1, 28, 28)).shape == (0, 81, 7, 7)
    assert scattered.min() >= -1e-4  # of a positive image


def test_channels_and_images_are_scattered_apart() -> None:
    images = torch.rand(scattering.CHUNK + 3, 2, 12, 16)
    scattered = scattering.scatter(images)
    one = scattering.scatter(images[-1:, 1:])
    torch.testing.assert_close(scattered[-1:, scattering.CHANNELS :], one)


def test_a_constant_has_no_coefficients_but_its_mean() -> None:
    scattered = scattering.scatter(torch.full((1, 1, 16, 16), 0.7))
    torch.testing.assert_close(scattered[:, 0], torch.full((1, 4, 4), 0.7), rtol=1e-4, atol=0)
    assert scattered[:, 1:].abs().max() < 1e-5  # wavelets have mean zero


def test_it_does_not_expand_and_keeps_most_of_the_energy() -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(8, 1, 68, 68), 5, stride=1)
    one, other = smooth[:4], smooth[4:]
    apart = scattering.scatter(one) - scattering.scatter(other)
    before = (one - other).square().sum()
    # a coefficient stands for STRIDE squared pixels; the mirrored border adds a little
    assert scattering.STRIDE**2 * apart.square().sum() <= 1.1 * before
    energy = scattering.STRIDE**2 * scattering.scatter(smooth).square().sum()
    assert 0.7 < float(energy / smooth.square().sum()) < 1.1


def test_it_moves_with_the_image() -> None:
    torch.manual_seed(0)
    inner = torch.zeros(1, 1, 64, 64)
    inner[..., 24:40, 24:40] = torch.rand(16, 16)
    moved = inner.roll((4, -8), (2, 3))
    scattered, expected = scattering.scatter(moved), scattering.scatter(inner).roll((1, -2), (2, 3))
    torch.testing.assert_close(scattered, expected, rtol=1e-3, atol=1e-5)
    # by less than the window it changes little, the image much
    near = inner.roll(1, 3)
    change = (scattering.scatter(near) - scattering.scatter(inner)).norm()
    assert change / scattering.scatter(inner).norm() < 0.5 * (near - inner).norm() / inner.norm()


def test_a_turned_image_has_the_coefficients_of_turned_wavelets() -> None:
    square = torch.rand(1, 1, 32, 32)
    scattered = scattering.scatter(square)[:, 1:9]  # the finer scale, by angle
    turned = scattering.scatter(square.rot90(1, (2, 3)))[:, 1:9]
    middle = slice(2, -2)  # pixels that are kept are not symmetric
    means = scattered[..., middle, middle].mean((0, 2, 3))
    rolled = turned[..., middle, middle].mean((0, 2, 3)).roll(4)
    torch.testing.assert_close(means, rolled, rtol=0.1, atol=0)
