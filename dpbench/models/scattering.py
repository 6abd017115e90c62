"""The wavelet scattering transform of images, of order 2 (Bruna and Mallat 2013).

A fixed map: it learns nothing, and what it makes of one image depends on no other. Wavelets and
padding are those of Kymatio (Andreux et al. 2020), with which the transform agrees to rounding:
Morlet wavelets psi at 2^J scales and L angles, and a Gaussian window phi at the scale 2^J. Order 0
is x * phi, order 1 |x * psi| * phi, order 2 ||x * psi| * psi'| * phi, each at every 2^J-th pixel.
"""

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SCALES, ANGLES = 2, 8  # J and L
SLANT = 4 / ANGLES  # of a wavelet's width to its length
CHANNELS = 1 + SCALES * ANGLES + ANGLES**2  # of the three orders, for J = 2
STRIDE = 2**SCALES
PADDING = STRIDE  # pixels on each side, mirrored
CHUNK = 32  # images at a time, which stay in cache

_Complex = NDArray[np.complex128]


def scatter(images: Tensor) -> Tensor:
    """The coefficients of every channel of the images.

    Args:
        images: Float32 [B, C, H, W]; H and W are multiples of 4, and at least 8.

    Returns:
        Float32 [B, 81 C, H / 4, W / 4]. Of each channel first order 0, then order 1, the finer
        scale first, then order 2, each by rising angle.
    """
    batch, channels, height, width = images.shape
    flat = images.reshape(batch * channels, height, width)
    out = flat.new_empty(len(flat), CHANNELS, height // STRIDE, width // STRIDE)
    for start in range(0, len(flat), CHUNK):
        out[start : start + CHUNK] = _scatter(flat[start : start + CHUNK])
    return out.view(batch, channels * CHANNELS, height // STRIDE, width // STRIDE)


def _scatter(images: Tensor) -> Tensor:
    """[B, H, W] -> [B, 81, H / 4, W / 4]."""
    height, width = images.shape[1] + 2 * PADDING, images.shape[2] + 2 * PADDING
    fine, coarse = (each.to(images.device) for each in _wavelets(height, width))
    windows = [[_window(size, res).to(images.device) for size in (height, width)] for res in (0, 1)]

    def average(maps: Tensor, res: int) -> Tensor:
        """[..., H, W] at half the size `res` times -> [..., H / 4, W / 4]."""
        over_rows, over_columns = windows[res]
        return over_rows @ maps @ over_columns.T

    padded = torch.nn.functional.pad(images[:, None], 4 * [PADDING], mode="reflect")  # [B, 1, H, W]
    spectrum = torch.fft.fft2(padded)
    of_fine = _modulus(torch.fft.ifft2(spectrum * fine))  # [B, L, H, W]
    of_coarse = _modulus(torch.fft.ifft2(_halved(spectrum, coarse)))  # [B, L, H / 2, W / 2]
    spectra = torch.fft.fft2(of_fine)[:, :, None]  # [B, L, 1, H, W]
    second = _modulus(torch.fft.ifft2(_halved(spectra, coarse)))  # [B, L, L, H / 2, W / 2]
    orders = average(padded, 0), average(of_fine, 0), average(of_coarse, 1)
    return torch.cat([*orders, average(second, 1).flatten(1, 2)], dim=1)


def _halved(spectrum: Tensor, wavelets: Tensor) -> Tensor:
    """The spectra of every second pixel in both directions of the convolutions with the wavelets.

    They are folded: what differs by half of the frequencies is added up.

    Args:
        spectrum: Complex [..., H, W].
        wavelets: Their spectra, real [L, H, W].

    Returns:
        Complex [..., L, H / 2, W / 2].
    """
    height, width = spectrum.shape[-2] // 2, spectrum.shape[-1]
    values = torch.view_as_real(spectrum).flatten(-2)  # [..., H, 2 W], faster than complex numbers
    weights = (wavelets / 4).repeat_interleave(2, dim=-1)  # [L, H, 2 W]
    folded = None
    for rows in (slice(None, height), slice(height, None)):
        for columns in (slice(None, width), slice(width, None)):
            of_part, part = weights[:, rows, columns], values[..., rows, columns]
            folded = part * of_part if folded is None else folded.addcmul_(part, of_part)
    assert folded is not None
    return torch.view_as_complex(folded.unflatten(-1, (-1, 2)))


def _modulus(maps: Tensor) -> Tensor:
    """As `maps.abs()`, twice as fast: no value is so large that its square overflows."""
    return maps.real.square().addcmul_(maps.imag, maps.imag).sqrt_()


@cache
def _wavelets(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The spectra, which are real, of the wavelets of the finer and the coarser scale.

    Float32 [L, H, W] each.
    """
    scales = []
    for scale in range(SCALES):
        angles = [(ANGLES // 2 - 1 - each) * math.pi / ANGLES for each in range(ANGLES)]
        spectra = [np.fft.fft2(_morlet(height, width, scale, angle)).real for angle in angles]
        scales.append(torch.from_numpy(np.stack(spectra)).float())
    fine, coarse = scales
    return fine, coarse


def _morlet(height: int, width: int, scale: int, angle: float) -> _Complex:
    """A Gaussian times a wave of that angle, less so much of the Gaussian that its sum is zero."""
    frequency = 0.75 * math.pi / 2**scale
    wave = _gabor((height, width), 0.8 * 2**scale, angle, frequency)
    gaussian = _gabor((height, width), 0.8 * 2**scale, angle, 0.0)
    centred: _Complex = wave - wave.sum() / gaussian.sum() * gaussian
    return centred


def _gabor(size: tuple[int, int], sigma: float, angle: float, frequency: float) -> _Complex:
    """A Gaussian times a wave, periodic: the sum over its copies in the neighbouring periods."""
    height, width = size
    total = np.zeros(size, np.complex128)
    for row in range(-2, 3):
        for column in range(-2, 3):
            y, x = np.mgrid[
                row * height : (row + 1) * height, column * width : (column + 1) * width
            ]
            along = y * math.cos(angle) + x * math.sin(angle)
            across = x * math.cos(angle) - y * math.sin(angle)
            squared = (along**2 + (SLANT * across) ** 2) / (2 * sigma**2)
            total += np.exp(-squared + 1j * frequency * along)
    return total * SLANT / (2 * math.pi * sigma**2)


@cache
def _window(size: int, res: int) -> Tensor:
    """The window phi along one direction at the pixels that are kept.

    Float32 [kept, size / 2^res]. phi is Gaussian, and so a product over the directions. At half the
    size its spectrum is cut at the new highest frequency. Pixels in the padding are not kept.
    """
    sigma = 0.8 * 2 ** (SCALES - 1)
    at = np.arange(size)
    copies = [np.exp(-((at + each * size) ** 2) / (2 * sigma**2)) for each in range(-2, 3)]
    spectrum = np.fft.fft(sum(copies) / (math.sqrt(2 * math.pi) * sigma)).real
    reduced = size // 2**res
    half = reduced // 2
    spectrum = np.concatenate([spectrum[:half], spectrum[-half:]]) if res else spectrum
    window = np.fft.ifft(spectrum).real  # [reduced], around 0
    step = STRIDE // 2**res
    kept = np.arange(PADDING // 2**res, reduced - PADDING // 2**res, step)
    rows = window[(kept[:, None] - np.arange(reduced)) % reduced]
    return torch.from_numpy(rows).float()
