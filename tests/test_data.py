from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from dpbench import catalogue, data
from dpbench.trial import BadInput


def test_digits_are_images_of_the_tutorials_size(digits: data.Dataset) -> None:
    entry = catalogue.entry("digits")
    assert digits.train_images.shape == (entry.train_examples, 1, 28, 28)
    assert digits.test_images.shape == (entry.test_examples, 1, 28, 28)
    assert digits.train_images.dtype == torch.uint8
    assert digits.train_images.max() == 255
    assert set(digits.train_labels.tolist()) == set(range(10))


def test_mnist_is_the_real_one(mnist_root: Path) -> None:
    mnist = data.load("mnist", mnist_root, "cpu")
    assert mnist.train_images.shape == (60_000, 1, 28, 28)
    assert mnist.test_labels.shape == (10_000,)
    # The constants by which every image is normalised are those of MNIST's training pixels.
    pixels = data.normalise(mnist.train_images)
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-3)
    assert float(pixels.std()) == pytest.approx(1, abs=1e-3)


def test_a_dataset_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()  # a data root that cannot be made
    with pytest.raises(BadInput, match=r"Cannot load dataset=kmnist from .*--data-root"):
        data.load("kmnist", blocked, "cpu")


def batches(steps: int, rate: float, examples: int = 1_000, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list(data.poisson_batches(examples=examples, sample_rate=rate, steps=steps, rng=rng))


def test_batch_sizes_follow_the_binomial() -> None:
    sizes = np.array([len(batch) for batch in batches(4_000, 0.05)])
    expected = stats.binom(1_000, 0.05)
    edges = expected.ppf([0.1, 0.25, 0.5, 0.75, 0.9])
    cells = np.searchsorted(edges, sizes)
    probabilities = np.diff([0, *expected.cdf(edges), 1])
    assert stats.chisquare(np.bincount(cells), len(sizes) * probabilities).pvalue > 0.001
    # and a sampler of fixed size would be found out
    assert sizes.std() == pytest.approx(expected.std(), rel=0.05)


def test_every_example_joins_at_the_sample_rate_and_at_most_once() -> None:
    drawn = batches(4_000, 0.05)
    assert all(len(np.unique(batch)) == len(batch) for batch in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=1_000)
    expected = 4_000 * 0.05
    # a sum of 1,000 squared deviations of binomials over their variance is about chi-square
    deviation = ((counts - expected) ** 2 / (expected * 0.95)).sum()
    assert stats.chi2(1_000).sf(deviation) > 0.001


def test_two_examples_join_independently() -> None:
    drawn = batches(20_000, 0.5, examples=4)
    together = sum(0 in batch and 1 in batch for batch in drawn)
    assert together / 20_000 == pytest.approx(0.25, abs=0.015)


def test_empty_batches_happen() -> None:
    sizes = [len(batch) for batch in batches(1_000, 0.001)]
    assert sizes.count(0) == pytest.approx(1_000 * 0.999**1_000, rel=0.2)


def test_batches_are_those_of_the_generator() -> None:
    first, again, other = batches(5, 0.1), batches(5, 0.1), batches(5, 0.1, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
