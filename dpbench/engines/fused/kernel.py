"""One example through a small CNN: forward, backward, norm and clipped sum, in cache.

The tutorial's CNN and the tanh CNN are two networks of one kind. The sides below are the tutorial's
and, in brackets, those of the tanh CNN. Layouts, all flat and float32, channels innermost so that
sixteen of them are one vector:

    image   [34, 34] (32)        28 x 28 with the padding of 3 (2) around it
    c1      [14, 14, 16] (13)    conv1, after its activation   p1  [13, 13, 16] (12)  its max-pool
    c2      [5, 5, 32]           conv2, after its activation   p2  [4, 4, 32]         its max-pool
    w1      [8, 8, 16]           rows, columns, out
    w2      [4, 4, 16, 32]       rows, columns, in, out        w2t [32, 4, 4, 16]
    w3      [32, 4, 4, 32]       out, then p2's layout         w4  [10, 32]

A name with d before it is the gradient of the loss with respect to it. The loops over blocks of
channels or columns are unrolled by hand: each name that ends in a digit is a register.

What an example of the tutorial's costs, in multiply-adds of sixteen: conv1 12,544, conv2 12,800,
their weight gradients the same again, conv2's data gradient at most 12,800 (zeros are passed over),
the dense layers 1,044 forward, as many back and as many into the sum. DP-SGD adds the squared norm
(at most 620) and the scaling to that.
"""
# mypy: ignore-errors
# numba infers the types: arrays are flat and float32, indices 64-bit integers, and `net`, `w`,
# `act`, `grad` and `sums` the named tuples below.

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload

from dpbench.engines.fused.simd import (
    add,
    add_product,
    add_scaled,
    fill,
    load,
    maximum,
    multiply,
    store,
    tanh,
    total,
    where_equal,
)

# numba's cache of these functions sees a change of this file, and none of simd.py. So what simd.py
# is stands here, and a test holds it.
SIMD_SHA256 = "801b1be157a3926480e928a784baa91641be42458a8308bbcdca59d8b3dfad7c"

Array = np.ndarray[tuple[int], np.dtype[np.float32]]


class TutorialCnn(NamedTuple):
    """The tutorial's CNN: images padded by 3, ReLU.

    Attributes:
        side: Of c1; the padding is 11 less.
        floor: The least that the activation gives.
    """

    side: int = 14
    floor: float = 0.0


class TanhCnn(NamedTuple):
    """The tanh CNN: images padded by 2. Without a floor, `squash` computes the activation."""

    side: int = 13
    floor: float = -math.inf


Network = TutorialCnn | TanhCnn


# The kernel is compiled for each of the classes, with its values as constants.


def side_of(net):
    """The network's `side`."""


def floor_of(net):
    """The network's `floor`."""


@overload(side_of)
def _side_of(net):
    side = net.instance_class().side
    return lambda net: side


@overload(floor_of)
def _floor_of(net):
    floor = np.float32(net.instance_class().floor)
    return lambda net: floor


class Weights(NamedTuple):
    """The network's parameters."""

    w1: Array
    b1: Array
    w2: Array
    w2t: Array
    b2: Array
    w3: Array
    b3: Array
    w4: Array
    b4: Array


class Activations(NamedTuple):
    """What one example's forward pass leaves."""

    image: Array
    c1: Array
    p1: Array
    c2: Array
    p2: Array
    h: Array
    logits: Array


class Gradients(NamedTuple):
    """What one example's backward pass leaves; those of w3 and w4 are outer products."""

    w1: Array
    b1: Array
    c1: Array
    p1: Array
    w2: Array
    b2: Array
    c2: Array
    p2: Array
    b3: Array
    b4: Array


class Sums(NamedTuple):
    """The batch's gradient with respect to each parameter."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array
    w3: Array
    b3: Array
    w4: Array
    b4: Array


@njit(cache=True)
def conv1(net, image, w1, b1, c1):
    """Fills c1[y, x] = activation(b1 + sum over a, b of image[2y + a, 2x + b] w1[a, b]).

    Seven columns x at once; of thirteen, the one in the middle twice.
    """
    bias = load(b1, 0)
    floor = fill(floor_of(net))
    side, row = side_of(net), 2 * side_of(net) + 6
    for y in range(side):
        for x in (0, side - 7):
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = bias
            for a in range(8):
                at = (2 * y + a) * row + 2 * x
                for b in range(8):
                    w = load(w1, (a * 8 + b) * 16)
                    s0 = add_scaled(s0, image[at + b], w)
                    s1 = add_scaled(s1, image[at + b + 2], w)
                    s2 = add_scaled(s2, image[at + b + 4], w)
                    s3 = add_scaled(s3, image[at + b + 6], w)
                    s4 = add_scaled(s4, image[at + b + 8], w)
                    s5 = add_scaled(s5, image[at + b + 10], w)
                    s6 = add_scaled(s6, image[at + b + 12], w)
            to = (y * side + x) * 16
            store(c1, to, maximum(floor, s0))
            store(c1, to + 16, maximum(floor, s1))
            store(c1, to + 32, maximum(floor, s2))
            store(c1, to + 48, maximum(floor, s3))
            store(c1, to + 64, maximum(floor, s4))
            store(c1, to + 80, maximum(floor, s5))
            store(c1, to + 96, maximum(floor, s6))
    squash(net, c1)


@njit(cache=True)
def conv2(net, p1, w2, b2, c2):
    """Fills c2[y, x] = activation(b2 + sum over a, b, i of p1[2y + a, 2x + b, i] w2[a, b, i]).

    A row y at once.
    """
    low, high = load(b2, 0), load(b2, 16)
    floor = fill(floor_of(net))
    row = (side_of(net) - 1) * 16
    for y in range(5):
        l0 = l1 = l2 = l3 = l4 = low
        h0 = h1 = h2 = h3 = h4 = high
        for a in range(4):
            for bi in range(64):  # b and i together: both steps are 1 in p1 and in w2
                at = (2 * y + a) * row + bi
                wl = load(w2, (a * 64 + bi) * 32)
                wh = load(w2, (a * 64 + bi) * 32 + 16)
                v = p1[at]
                l0 = add_scaled(l0, v, wl)
                h0 = add_scaled(h0, v, wh)
                v = p1[at + 32]
                l1 = add_scaled(l1, v, wl)
                h1 = add_scaled(h1, v, wh)
                v = p1[at + 64]
                l2 = add_scaled(l2, v, wl)
                h2 = add_scaled(h2, v, wh)
                v = p1[at + 96]
                l3 = add_scaled(l3, v, wl)
                h3 = add_scaled(h3, v, wh)
                v = p1[at + 128]
                l4 = add_scaled(l4, v, wl)
                h4 = add_scaled(h4, v, wh)
        to = y * 160
        store(c2, to, maximum(floor, l0))
        store(c2, to + 16, maximum(floor, h0))
        store(c2, to + 32, maximum(floor, l1))
        store(c2, to + 48, maximum(floor, h1))
        store(c2, to + 64, maximum(floor, l2))
        store(c2, to + 80, maximum(floor, h2))
        store(c2, to + 96, maximum(floor, l3))
        store(c2, to + 112, maximum(floor, h3))
        store(c2, to + 128, maximum(floor, l4))
        store(c2, to + 144, maximum(floor, h4))
    squash(net, c2)


@njit(cache=True)
def squash(net, values):
    """Where the activation is tanh, does values = tanh(values)."""
    if floor_of(net) < 0:
        for at in range(0, len(values), 16):
            store(values, at, tanh(load(values, at)))


@njit(cache=True)
def squash_back(net, values, d):
    """Where the activation is tanh and gave the values, does d *= 1 - values^2."""
    if floor_of(net) < 0:
        minus = fill(np.float32(-1))
        for at in range(0, len(values), 16):
            value, back = load(values, at), load(d, at)
            store(d, at, add_product(back, multiply(minus, back), multiply(value, value)))


@njit(cache=True)
def pool(c, size, channels, p):
    """Fills p[y, x] = the largest of c[y : y + 2, x : x + 2], c of size x size."""
    row = size * channels
    for y in range(size - 1):
        for x in range(0, (size - 1) * channels, 16):
            at = y * row + x
            upper = maximum(load(c, at), load(c, at + channels))
            lower = maximum(load(c, at + row), load(c, at + row + channels))
            store(p, y * (row - channels) + x, maximum(upper, lower))


@njit(cache=True)
def pool_back(net, c, p, dp, size, channels, dc):
    """Fills dc, by what the activation was given.

    Each dp goes to the first of its four c that is the largest, if that is above the floor.
    """
    row = size * channels
    floor = fill(floor_of(net))
    zero = fill(np.float32(0))
    for at in range(0, size * row, 16):
        store(dc, at, zero)
    for y in range(size - 1):
        for x in range(0, (size - 1) * channels, 16):
            at = y * row + x
            here = y * (row - channels) + x
            largest = load(p, here)
            left = where_equal(largest, floor, zero, load(dp, here))
            for offset in (0, channels, row, row + channels):
                value = load(c, at + offset)
                taken = where_equal(value, largest, left, zero)
                left = where_equal(value, largest, zero, left)
                store(dc, at + offset, add(load(dc, at + offset), taken))
    squash_back(net, c, dc)


@njit(cache=True)
def conv1_weights_back(net, image, dc1, dw1, db1):
    """Fills dw1[a, b] = sum over y, x of image[2y + a, 2x + b] dc1[y, x]; db1 = sum of dc1."""
    zero = fill(np.float32(0))
    bias = zero
    side, row = side_of(net), 2 * side_of(net) + 6
    for at in range(0, len(dc1), 16):
        bias = add(bias, load(dc1, at))
    store(db1, 0, bias)
    for a in range(8):
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero
        for y in range(side):
            for x in range(side):
                d = load(dc1, (y * side + x) * 16)
                at = (2 * y + a) * row + 2 * x
                s0 = add_scaled(s0, image[at], d)
                s1 = add_scaled(s1, image[at + 1], d)
                s2 = add_scaled(s2, image[at + 2], d)
                s3 = add_scaled(s3, image[at + 3], d)
                s4 = add_scaled(s4, image[at + 4], d)
                s5 = add_scaled(s5, image[at + 5], d)
                s6 = add_scaled(s6, image[at + 6], d)
                s7 = add_scaled(s7, image[at + 7], d)
        to = a * 128
        store(dw1, to, s0)
        store(dw1, to + 16, s1)
        store(dw1, to + 32, s2)
        store(dw1, to + 48, s3)
        store(dw1, to + 64, s4)
        store(dw1, to + 80, s5)
        store(dw1, to + 96, s6)
        store(dw1, to + 112, s7)


@njit(cache=True)
def conv2_weights_back(net, p1, dc2, dw2, db2):
    """Fills dw2[a, b, i] = sum over y, x of p1[2y + a, 2x + b, i] dc2[y, x]; four i at once."""
    zero = fill(np.float32(0))
    low = high = zero
    row = (side_of(net) - 1) * 16
    for at in range(0, 25 * 32, 32):
        low = add(low, load(dc2, at))
        high = add(high, load(dc2, at + 16))
    store(db2, 0, low)
    store(db2, 16, high)
    for a in range(4):
        for bi in range(0, 64, 4):
            l0 = l1 = l2 = l3 = zero
            h0 = h1 = h2 = h3 = zero
            for y in range(5):
                for x in range(5):
                    dl = load(dc2, (y * 5 + x) * 32)
                    dh = load(dc2, (y * 5 + x) * 32 + 16)
                    at = (2 * y + a) * row + 32 * x + bi
                    l0 = add_scaled(l0, p1[at], dl)
                    h0 = add_scaled(h0, p1[at], dh)
                    l1 = add_scaled(l1, p1[at + 1], dl)
                    h1 = add_scaled(h1, p1[at + 1], dh)
                    l2 = add_scaled(l2, p1[at + 2], dl)
                    h2 = add_scaled(h2, p1[at + 2], dh)
                    l3 = add_scaled(l3, p1[at + 3], dl)
                    h3 = add_scaled(h3, p1[at + 3], dh)
            to = (a * 64 + bi) * 32
            store(dw2, to, l0)
            store(dw2, to + 16, h0)
            store(dw2, to + 32, l1)
            store(dw2, to + 48, h1)
            store(dw2, to + 64, l2)
            store(dw2, to + 80, h2)
            store(dw2, to + 96, l3)
            store(dw2, to + 112, h3)


@njit(cache=True)
def conv2_data_back(net, dc2, w2t, dp1):
    """Does dp1[2y + a, 2x + b] += sum over o of dc2[y, x, o] w2t[o, a, b].

    Two rows of taps at once. Most of dc2 is zero, behind ReLU and max-pool, and is passed over.
    """
    zero = fill(np.float32(0))
    row = (side_of(net) - 1) * 16
    for at in range(0, len(dp1), 16):
        store(dp1, at, zero)
    channels = np.empty(32, np.int64)
    for y in range(5):
        for x in range(5):
            from_ = (y * 5 + x) * 32
            count = 0
            for o in range(32):
                channels[count] = o
                count += dc2[from_ + o] != 0
            for a in range(0, 4, 2):
                to = (2 * y + a) * row + 32 * x
                s0 = load(dp1, to)
                s1 = load(dp1, to + 16)
                s2 = load(dp1, to + 32)
                s3 = load(dp1, to + 48)
                s4 = load(dp1, to + row)
                s5 = load(dp1, to + row + 16)
                s6 = load(dp1, to + row + 32)
                s7 = load(dp1, to + row + 48)
                for n in range(count):
                    o = channels[n]
                    d = dc2[from_ + o]
                    w = o * 256 + a * 64
                    s0 = add_scaled(s0, d, load(w2t, w))
                    s1 = add_scaled(s1, d, load(w2t, w + 16))
                    s2 = add_scaled(s2, d, load(w2t, w + 32))
                    s3 = add_scaled(s3, d, load(w2t, w + 48))
                    s4 = add_scaled(s4, d, load(w2t, w + 64))
                    s5 = add_scaled(s5, d, load(w2t, w + 80))
                    s6 = add_scaled(s6, d, load(w2t, w + 96))
                    s7 = add_scaled(s7, d, load(w2t, w + 112))
                store(dp1, to, s0)
                store(dp1, to + 16, s1)
                store(dp1, to + 32, s2)
                store(dp1, to + 48, s3)
                store(dp1, to + row, s4)
                store(dp1, to + row + 16, s5)
                store(dp1, to + row + 32, s6)
                store(dp1, to + row + 48, s7)


@njit(cache=True)
def dense(w, b, v, outputs, inputs, to):
    """Fills to[o] = b[o] + w[o] . v."""
    for o in range(outputs):
        s0 = s1 = s2 = s3 = fill(np.float32(0))
        at = o * inputs
        if inputs == 512:
            for i in range(0, 512, 64):
                s0 = add_product(s0, load(v, i), load(w, at + i))
                s1 = add_product(s1, load(v, i + 16), load(w, at + i + 16))
                s2 = add_product(s2, load(v, i + 32), load(w, at + i + 32))
                s3 = add_product(s3, load(v, i + 48), load(w, at + i + 48))
        else:
            for i in range(0, inputs, 16):
                s0 = add_product(s0, load(v, i), load(w, at + i))
        to[o] = b[o] + total(add(add(s0, s1), add(s2, s3)))


@njit(cache=True)
def dense_back(w, d, outputs, inputs, dv):
    """Fills dv = sum over o of d[o] w[o]."""
    for i in range(0, inputs, 16):
        s = fill(np.float32(0))
        for o in range(outputs):
            s = add_scaled(s, d[o], load(w, o * inputs + i))
        store(dv, i, s)


@njit(cache=True)
def add_outer(factor, d, v, outputs, inputs, to):
    """Does to[o] += factor d[o] v."""
    for o in range(outputs):
        scale = factor * d[o]
        if scale != 0:
            for i in range(0, inputs, 16):
                at = o * inputs + i
                store(to, at, add_scaled(load(to, at), scale, load(v, i)))


@njit(cache=True)
def add_flat(factor, values, to):
    """Does to += factor values; the length is a multiple of sixteen."""
    for at in range(0, len(values), 16):
        store(to, at, add_scaled(load(to, at), factor, load(values, at)))


@njit(cache=True)
def squared(values, count):
    """The sum of the squares of the first `count`."""
    s = np.float32(0)
    whole = count - count % 16
    v0 = fill(np.float32(0))
    for at in range(0, whole, 16):
        v0 = add_product(v0, load(values, at), load(values, at))
    for at in range(whole, count):
        s += values[at] * values[at]
    return s + total(v0)


@njit(cache=True)
def softmax_loss(logits, label, d):
    """The cross entropy in nats; d = softmax(logits) - one_hot(label)."""
    largest = logits[0]
    for k in range(1, 10):
        largest = max(largest, logits[k])
    exponentials = np.float32(0)
    for k in range(10):
        d[k] = math.exp(logits[k] - largest)
        exponentials += d[k]
    loss = math.log(exponentials) - (logits[label] - largest)
    for k in range(10):
        d[k] /= exponentials
    d[label] -= np.float32(1)
    return loss


@njit(cache=True)
def forward(net, image, w, act):
    """Fills `act` for one example, its logits last."""
    conv1(net, image, w.w1, w.b1, act.c1)
    pool(act.c1, side_of(net), 16, act.p1)
    conv2(net, act.p1, w.w2, w.b2, act.c2)
    pool(act.c2, 5, 32, act.p2)
    dense(w.w3, w.b3, act.p2, 32, 512, act.h)
    for o in range(32):
        act.h[o] = max(act.h[o], floor_of(net))
    squash(net, act.h)
    dense(w.w4, w.b4, act.h, 10, 32, act.logits)


@njit(cache=True)
def gradients(net, image, label, w, act, grad):
    """Fills `act` and `grad` for one example; returns its loss.

    The two dense layers' weight gradients stay the outer products that they are.
    """
    forward(net, image, w, act)
    loss = softmax_loss(act.logits, label, grad.b4)

    dense_back(w.w4, grad.b4, 10, 32, grad.b3)
    for o in range(32):
        if act.h[o] == floor_of(net):
            grad.b3[o] = 0
    squash_back(net, act.h, grad.b3)
    dense_back(w.w3, grad.b3, 32, 512, grad.p2)
    pool_back(net, act.c2, act.p2, grad.p2, 5, 32, grad.c2)
    conv2_weights_back(net, act.p1, grad.c2, grad.w2, grad.b2)
    conv2_data_back(net, grad.c2, w.w2t, grad.p1)
    pool_back(net, act.c1, act.p1, grad.p1, side_of(net), 16, grad.c1)
    conv1_weights_back(net, image, grad.c1, grad.w1, grad.b1)
    return loss


@njit(cache=True)
def squared_norm(act, grad):
    """Of the example's whole gradient; an outer product's is the product of its sides'."""
    conv = squared(grad.w1, 1024) + squared(grad.b1, 16)
    conv += squared(grad.w2, 8192) + squared(grad.b2, 32)
    d3, d4 = squared(grad.b3, 32), squared(grad.b4, 10)
    return conv + d3 * (squared(act.p2, 512) + 1) + d4 * (squared(act.h, 32) + 1)


@njit(cache=True)
def accumulate(factor, act, grad, sums):
    """Does sums += factor times the example's gradient."""
    add_flat(factor, grad.w1, sums.w1)
    add_flat(factor, grad.b1, sums.b1)
    add_flat(factor, grad.w2, sums.w2)
    add_flat(factor, grad.b2, sums.b2)
    add_flat(factor, grad.b3, sums.b3)
    add_flat(factor, grad.b4, sums.b4)
    add_outer(factor, grad.b3, act.p2, 32, 512, sums.w3)
    add_outer(factor, grad.b4, act.h, 10, 32, sums.w4)


@njit(cache=True)
def pad(net, pixels, image):
    """Puts an example's 28 x 28 pixels into the middle of the image."""
    padding, row = side_of(net) - 11, 2 * side_of(net) + 6
    for y in range(28):
        for x in range(28):
            image[(y + padding) * row + x + padding] = pixels[y * 28 + x]


@njit(cache=True)
def clipped_sum(net, images, labels, max_grad_norm, w, act, grad, sums):
    """Adds each example's gradient, scaled to at most max_grad_norm, to `sums`; the losses' sum."""
    losses = 0.0
    for n in range(len(labels)):
        pad(net, images[n], act.image)
        losses += gradients(net, act.image, labels[n], w, act, grad)
        norm = math.sqrt(squared_norm(act, grad))
        factor = min(1.0, max_grad_norm / (norm + 1e-6))  # as Opacus clips
        accumulate(np.float32(factor), act, grad, sums)
    return losses


@njit(cache=True)
def plain_sum(net, images, labels, w, act, grad, sums):
    """Adds each example's gradient to `sums`; the losses' sum."""
    losses = 0.0
    for n in range(len(labels)):
        pad(net, images[n], act.image)
        losses += gradients(net, act.image, labels[n], w, act, grad)
        accumulate(np.float32(1), act, grad, sums)
    return losses


@njit(cache=True)
def fill_logits(net, images, w, act, logits):
    """Fills logits[n] for each example."""
    for n in range(len(images)):
        pad(net, images[n], act.image)
        forward(net, act.image, w, act)
        for k in range(10):
            logits[n, k] = act.logits[k]
