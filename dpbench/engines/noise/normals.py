"""Normal numbers of PyTorch's generator on a CPU, compiled: the same ones, in less time.

PyTorch makes them of the words of the Mersenne Twister (MT19937; Matsumoto and Nishimura 1998) by
the method of Box and Muller (1958), and most of its time goes into the words, which it computes one
by one. Here they are computed in vectors. The numbers are PyTorch's, on processors with fused
multiply-adds to the last bit, and the generator is left in the same state.

LLVM makes vectors of a loop over whole arrays, of which none overlaps with another. A value goes
from integers to floats by way of an array of 32 bits, for numba's own integers have 64.
"""
# mypy: ignore-errors
# numba infers the types: arrays are flat, words uint32, numbers float32.

import math
from typing import NamedTuple

import numpy as np
from numba import njit

WORDS = 624  # of the twister's state
VECTOR = 16  # numbers that PyTorch makes at a time; it makes fewer than these in another way

_FAR = 397  # words ahead
_HIGH, _REST, _ONE = np.uint32(0x80000000), np.uint32(0x7FFFFFFF), np.uint32(1)
_MATRIX = np.uint32(0x9908B0DF)
_PART = 1024  # numbers at a time: in the first-level cache
_float = np.float32

Words = np.ndarray[tuple[int], np.dtype[np.uint32]]
Integers = np.ndarray[tuple[int], np.dtype[np.int32]]
Floats = np.ndarray[tuple[int], np.dtype[np.float32]]


class Memory(NamedTuple):
    """What `fill` works in.

    Attributes:
        words: [624], the generator's state.
        drawn: [624], what is drawn of them.
        low: [624], its low 24 bits.
        units: [624], these as floats.
        radii: [512], of numbers that are made.
        turns: [512], likewise.
        bits: [512], for a logarithm.
        powers: [512], likewise.
    """

    words: Words
    drawn: Words
    low: Integers
    units: Floats
    radii: Floats
    turns: Floats
    bits: Integers
    powers: Integers


def memory():
    """Of its own for a caller."""
    sizes = [(WORDS, np.uint32)] * 2 + [(WORDS, np.int32), (WORDS, np.float32)]
    sizes += [(_PART // 2, np.float32)] * 2 + [(_PART // 2, np.int32)] * 2
    return Memory(*(np.empty(size, dtype) for size, dtype in sizes))


@njit(cache=True)
def fill(out, sizes, spread, place, memory):
    """Fills parts of `out` one after the other, each as `Tensor.normal_` fills a tensor.

    Args:
        out: Of all parts.
        sizes: Of the parts.
        spread: Standard deviation.
        place: How many of the state's words are used, and the second normal of a pair of which the
            first is drawn; not a number where there is none.
        memory: With the state's words, which change.

    Returns:
        The place afterwards.
    """
    used, held = place
    _temper(memory)
    begin = 0
    for size in sizes:
        part = out[begin : begin + size]
        begin += size
        if size < VECTOR:
            used, held = _fill_few(part, spread, used, held, memory)
            continue
        used = _uniform(part, used, memory)
        whole = size - size % VECTOR
        for at in range(0, whole, _PART):
            _box_muller(part[at : min(at + _PART, whole)], _float(spread), memory)
        if whole < size:  # the last sixteen again, some of which are made already
            last = part[size - VECTOR :]
            used = _uniform(last, used, memory)
            _box_muller(last, _float(spread), memory)
    return used, held


@njit(cache=True)
def _twist(words):
    """The next words of the state."""
    for k in range(WORDS - _FAR):
        y = (words[k] & _HIGH) | (words[k + 1] & _REST)
        words[k] = words[k + _FAR] ^ (y >> _ONE) ^ (-(y & _ONE) & _MATRIX)
    for k in range(WORDS - _FAR, WORDS - 1):
        y = (words[k] & _HIGH) | (words[k + 1] & _REST)
        words[k] = words[k + _FAR - WORDS] ^ (y >> _ONE) ^ (-(y & _ONE) & _MATRIX)
    y = (words[WORDS - 1] & _HIGH) | (words[0] & _REST)
    words[WORDS - 1] = words[_FAR - 1] ^ (y >> _ONE) ^ (-(y & _ONE) & _MATRIX)


@njit(cache=True)
def _temper(memory):
    """Makes of the words what is drawn of them."""
    words, drawn, low, units = memory.words, memory.drawn, memory.low, memory.units
    for k in range(WORDS):
        y = words[k]
        y = y ^ (y >> np.uint32(11))
        y = y ^ ((y << np.uint32(7)) & np.uint32(0x9D2C5680))
        y = y ^ ((y << np.uint32(15)) & np.uint32(0xEFC60000))
        y = y ^ (y >> np.uint32(18))
        drawn[k] = y
        low[k] = y & np.uint32(0xFFFFFF)
    for k in range(WORDS):
        units[k] = low[k]


@njit(cache=True)
def _renew(memory):
    """Draws the next words."""
    _twist(memory.words)
    _temper(memory)


@njit(cache=True)
def _uniform(out, used, memory):
    """Fills out with uniform numbers times 2^24; returns how many words are used."""
    at = 0
    while at < out.size:
        if used == WORDS:
            _renew(memory)
            used = 0
        count = min(out.size - at, WORDS - used)
        to, source = out[at : at + count], memory.units[used : used + count]
        for k in range(count):
            to[k] = source[k]
        at += count
        used += count
    return used


@njit(cache=True)
def _box_muller(out, spread, memory):
    """Of each sixteen uniform numbers the first eight become radii and the others turns."""
    half = out.size // 2
    radii, turns = memory.radii[:half], memory.turns[:half]
    pairs, of_radii, of_turns = out.view(np.float64), radii.view(np.float64), turns.view(np.float64)
    for block in range(half // 8):
        for k in range(4):  # two floats at a time
            of_radii[4 * block + k] = pairs[8 * block + k]
            of_turns[4 * block + k] = pairs[8 * block + 4 + k]
    to_radii(radii, memory.bits[:half], memory.powers[:half])
    to_normals(radii, turns, spread)
    for block in range(half // 8):
        for k in range(4):
            pairs[8 * block + k] = of_radii[4 * block + k]
            pairs[8 * block + 4 + k] = of_turns[4 * block + k]


@njit(cache=True, fastmath={"contract"})
def to_radii(numbers, bits, powers):
    """A number u, from 0 to 2^24 - 1, becomes sqrt(-2 log(1 - u / 2^24)).

    The logarithm by the polynomial of the Cephes library (`logf`), in PyTorch's order.
    """
    given, mantissas = numbers.view(np.int32), bits.view(np.float32)
    for k in range(numbers.size):
        numbers[k] = _float(2**24) - numbers[k]
    for k in range(numbers.size):
        powers[k] = (given[k] >> 23) - 150  # 2^-24 included
        bits[k] = (given[k] & 0x7FFFFF) | 0x3F000000
    for k in range(numbers.size):
        x, power = mantissas[k], _float(powers[k])  # x in [0.5, 1)
        low = x < _float(math.sqrt(0.5))
        power = power - _float(1) if low else power
        x = (x - _float(1)) + x if low else x - _float(1)
        square = x * x
        y = _float(7.0376836292e-2)
        y = y * x + _float(-1.1514610310e-1)
        y = y * x + _float(1.1676998740e-1)
        y = y * x + _float(-1.2420140846e-1)
        y = y * x + _float(1.4249322787e-1)
        y = y * x + _float(-1.6668057665e-1)
        y = y * x + _float(2.0000714765e-1)
        y = y * x + _float(-2.4999993993e-1)
        y = y * x + _float(3.3333331174e-1)
        y = y * x
        y = y * square
        y = y + power * _float(-2.12194440e-4)  # of log 2, which is in two parts
        y = y - square * _float(0.5)
        logarithm = (x + y) + power * _float(0.693359375)
        numbers[k] = np.sqrt(_float(-2) * logarithm)


@njit(cache=True, fastmath={"contract"})
def to_normals(radii, turns, spread):
    """A radius r and a number t, from 0 to 2^24 - 1, become two normals.

    They are spread r cos(2 pi t / 2^24) and spread r sin(2 pi t / 2^24), with sine and cosine by
    the polynomials of the Cephes library (`sinf`, `cosf`), likewise.
    """
    for k in range(radii.size):
        x = _float(2 * math.pi) * (turns[k] * _float(2**-24))
        eighth = np.floor(x * _float(4 / math.pi))
        eighth = eighth + (eighth - _float(2) * np.floor(eighth * _float(0.5)))  # the next even one
        x = x + eighth * _float(-0.78515625)  # of pi / 4, which is in three parts
        x = x + eighth * _float(-2.4187564849853515625e-4)
        x = x + eighth * _float(-3.77489497744594108e-8)
        square = x * x
        cosine = _float(2.443315711809948e-5)
        cosine = cosine * square + _float(-1.388731625493765e-3)
        cosine = cosine * square + _float(4.166664568298827e-2)
        cosine = cosine * square
        cosine = cosine * square
        cosine = cosine - square * _float(0.5)
        cosine = cosine + _float(1)
        sine = _float(-1.9515295891e-4)
        sine = sine * square + _float(8.3321608736e-3)
        sine = sine * square + _float(-1.6666654611e-1)
        sine = sine * square
        sine = sine * x
        sine = sine + x
        swapped = (eighth == _float(2)) | (eighth == _float(6))
        across, up = (sine, cosine) if swapped else (cosine, sine)
        across = -across if (eighth == _float(2)) | (eighth == _float(4)) else across
        up = -up if (eighth == _float(4)) | (eighth == _float(6)) else up
        radius = radii[k]
        radii[k] = spread * (radius * across)
        turns[k] = spread * (radius * up)


@njit(cache=True)
def _fill_few(out, spread, used, held, memory):
    """As PyTorch fills tensors of less than sixteen numbers: by pairs, in float64."""
    for k in range(out.size):
        if not math.isnan(held):
            out[k] = spread * held
            held = math.nan
            continue
        used, turn = _double(used, memory)
        used, under = _double(used, memory)
        radius = math.sqrt(-2 * math.log1p(-under))
        out[k] = spread * (radius * math.cos(2 * math.pi * turn))
        held = radius * math.sin(2 * math.pi * turn)
    return used, held


@njit(cache=True)
def _double(used, memory):
    """A uniform number of 53 bits, of two words."""
    bits = np.uint64(0)
    for _ in range(2):
        if used == WORDS:
            _renew(memory)
            used = 0
        bits = (bits << np.uint64(32)) | np.uint64(memory.drawn[used])
        used += 1
    return used, np.float64(bits & np.uint64(2**53 - 1)) * 2.0**-53
