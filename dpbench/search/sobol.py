"""Points that fill the unit cube evenly, the same ones wherever they are computed."""

import hashlib

_BITS = 30


def points(dimensions: int, count: int) -> list[list[float]]:
    """So many points in [0, 1)^d; the first of a longer list are those of a shorter one.

    Sobol's sequence (1967) with the direction numbers of Joe and Kuo (2008), as scipy has it,
    without scrambling, since scipy's depends on its version. Its first point is the corner where
    every coordinate is 0: a fixed digital shift (Lemieux, Monte Carlo and Quasi-Monte Carlo
    Sampling, 2009, section 6.2.2) moves it into the cube and leaves each power of two of points as
    evenly spread as before.

    Args:
        dimensions: d, at least 1.
        count: At least 1.
    """
    from scipy.stats import qmc  # takes half a second to import

    sequence = qmc.Sobol(dimensions, scramble=False, bits=_BITS)
    drawn = sequence.random_base2((count - 1).bit_length())[:count]
    shifts = [_shift(dimension) for dimension in range(dimensions)]
    scale = 1 << _BITS
    return [
        [(int(value * scale) ^ shift) / scale for value, shift in zip(point, shifts, strict=True)]
        for point in drawn.tolist()
    ]


def _shift(dimension: int) -> int:
    digest = hashlib.sha256(f"dpbench search dimension {dimension}".encode()).hexdigest()
    return int(digest, 16) % (1 << _BITS)
