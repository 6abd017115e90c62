"""What others have published, at the epsilon that today's accountant gives for it."""

import math

import dp_accounting
import pytest
from dp_accounting import pld

from dpbench import datasets, models
from dpbench.privacy import accounting
from dpbench.reporting import published
from dpbench.reporting.published import Published

PRIVATE = [each for each in published.results() if each.noise_multiplier is not None]


def spent(result: Published) -> float:
    """By PLD, for Poisson batches."""
    assert result.noise_multiplier is not None
    if not result.preprocessing_noise:
        return accounting.spent(
            noise_multiplier=result.noise_multiplier,
            sample_rate=result.sample_rate,
            steps=result.steps,
            delta=result.delta,
        ).epsilon
    accountant = pld.PLDAccountant(value_discretization_interval=1e-4)
    step = dp_accounting.GaussianDpEvent(result.noise_multiplier)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(result.sample_rate, step), result.steps)
    for noise in result.preprocessing_noise:
        accountant.compose(dp_accounting.GaussianDpEvent(noise))
    return float(accountant.get_epsilon(result.delta))


@pytest.mark.parametrize("result", PRIVATE, ids=lambda result: result.name)
def test_its_epsilon_is_that_of_todays_accountant(result: Published) -> None:
    assert result.epsilon == pytest.approx(spent(result), abs=5e-4)
    assert result.epsilon is not None
    assert result.stated_epsilon is not None
    assert result.epsilon < result.stated_epsilon  # which an older conversion gave


def test_each_is_of_a_known_dataset_and_model_and_has_a_source() -> None:
    names = [each.name for each in published.results()]
    assert len(set(names)) == len(names) >= 6
    for each in published.results():
        assert each.dataset in datasets.names()
        assert each.model in models.names()
        assert each.source.startswith("https://")
        per_epoch = each.steps / each.epochs
        assert per_epoch == math.floor(each.examples / each.batch_size)
        assert 90 < each.accuracy < 100
