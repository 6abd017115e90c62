"""What to try next, by Optuna's model of how settings score. Needs the extra `optuna`."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dpbench.errors import BadInput
from dpbench.search.ranges import Range
from dpbench.search.space import Space, Values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

STARTUP = 10  # settings of a search that are drawn evenly, before there is a surface to model

Told = tuple[dict[str, Any], float]  # a setting and its score, of which the highest is the best


def refuse_missing() -> None:
    """Raises BadInput where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise BadInput(
            "Expected Optuna for search_method=optuna; pip install 'dpbench-sgd[optuna]'."
        ) from error


def ask(space: Space, told: Sequence[Told], count: int, *, seed: int) -> list[dict[str, Any]]:
    """Settings to try next, by a tree-structured Parzen estimator of those that are known.

    Bergstra et al., "Algorithms for hyper-parameter optimization" (2011). The same settings, told
    in the same order, give the same answer: nothing but the settings is kept between two calls.

    Args:
        space: To draw from.
        told: What is known; at least one.
        count: Of settings. They may repeat one another and what is known.
        seed: Of the sampler.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(values) for name, values in space.dimensions.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of constant_liar
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, constant_liar=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(
            [
                optuna.trial.create_trial(params=setting, distributions=distributions, value=score)
                for setting, score in told
            ]
        )
        asked = [study.ask(distributions) for _ in range(count)]
    return [space.rounded(trial.params) for trial in asked]


def _distribution(values: Values) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not isinstance(values, Range):
        return CategoricalDistribution(values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
