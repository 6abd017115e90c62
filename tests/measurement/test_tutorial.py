import pytest
import torch
from factories import make_workload

from dpbench.datasets import Data
from dpbench.measurement import step_timing, tutorial


def test_its_items_are_the_images_that_engines_see(digits: Data) -> None:
    images = torch.stack([tutorial.Items(digits)[index][0] for index in range(5)])
    assert torch.allclose(images, digits.prepared(digits.train[0][:5]), atol=1e-5)
    labels = [tutorial.Items(digits)[index][1] for index in range(5)]
    assert labels == digits.train[1][:5].tolist()


def test_a_run_goes_on_over_the_end_of_an_epoch(digits: Data) -> None:
    for private in (False, True):
        loop = tutorial.Tutorial(digits, 512, private=private)
        before = [parameter.detach().clone() for parameter in loop._model.parameters()]
        loop.run(7)  # an epoch is three steps
        after = list(loop._model.parameters())
        assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True))


@pytest.mark.long  # a measurement, which results/mnist-grid has of a quiet machine
def test_its_loop_costs_more_than_the_step_that_it_feeds(digits: Data) -> None:
    def seconds(name: str) -> float:
        timings = step_timing.measure(name, make_workload(64), digits, pairs=5)
        ratios = [t.seconds_per_step / t.baseline_seconds_per_step for t in timings]
        return sorted(ratios)[2]

    assert seconds("tutorial-non-private") > 1.3
    assert seconds("opacus-as-shipped") > 1.3
