from dataclasses import replace

import pytest
import torch
from factories import make_trial, make_workload

from dpbench import models
from dpbench.datasets import Data
from dpbench.engines import names
from dpbench.errors import BadInput
from dpbench.measurement import step_timing
from dpbench.models import scattering
from dpbench.training import loop


@pytest.fixture(scope="module")
def few(digits: Data) -> Data:
    return replace(
        digits,
        train=(digits.train[0][:60], digits.train[1][:60]),
        test=(digits.test[0][:30], digits.test[1][:30]),
    )


def test_its_features_are_normalised_by_each_example_alone(few: Data) -> None:
    images, _ = few.batch(torch.arange(8))
    features = models.spec("scatter-linear").features
    assert features is not None
    found = features(images)
    assert found.shape == (8, 81, 7, 7)
    groups = found.view(8, 27, -1)
    torch.testing.assert_close(groups.mean(2), torch.zeros(8, 27), rtol=0, atol=1e-4)
    before = scattering.scatter(images).view(8, 27, -1).var(2, correction=0)
    torch.testing.assert_close(groups.var(2, correction=0), before / (before + 1e-5))
    torch.testing.assert_close(features(images[3:4]), found[3:4])


def test_features_are_computed_once(few: Data) -> None:
    taken = models.taken("scatter-linear", few)
    assert models.taken("scatter-linear", few) is taken
    assert models.taken("mlp", few) is few
    images, targets = few.batch(torch.arange(5))
    features = models.spec("scatter-linear").features
    assert features is not None
    rows, same = taken.batch(torch.arange(5))
    assert torch.equal(same, targets)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, features(images), rtol=1e-3, atol=1e-3)
    assert len(taken.test[0]) == 30
    assert taken.validation is None


def test_every_private_engine_takes_the_same_step(few: Data) -> None:
    losses = {}
    for engine in set(names()) - {"non-private", "fused-non-private"}:
        trial = make_trial(engine, model="scatter-linear", batch_size=20, learning_rate=1.0)
        (seen,) = loop.train(trial, few)
        losses[engine] = seen.test_loss
    assert losses == pytest.approx(dict.fromkeys(losses, losses["bookkeeping"]), rel=1e-4)


def test_it_learns(digits: Data) -> None:
    (inputs, targets), test = digits.train, digits.test
    few = replace(digits, train=(inputs[:500], targets[:500]), test=(test[0][:100], test[1][:100]))
    trial = make_trial(
        "bookkeeping", model="scatter-linear", max_grad_norm=0.1, learning_rate=2.0, epochs=6
    )
    *_, last = loop.train(trial, few)
    assert last.test_accuracy is not None
    assert last.test_accuracy > 0.75


def test_its_step_is_timed_on_features(few: Data) -> None:
    workload = make_workload(batch_size=8, model="scatter-linear")
    pairs = step_timing.measure("bookkeeping", workload, few, pairs=1)
    assert pairs[0].seconds_per_step > 0


def test_odd_sizes_are_refused_in_one_line() -> None:
    spec = models.spec("scatter-linear")
    with pytest.raises(BadInput, match="multiples of 4 from 8 pixels on, not 30 x 30"):
        spec.build((1, 30, 30), 10, seed=0)
    assert spec.refuses((30,), 2) is not None
