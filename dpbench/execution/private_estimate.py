"""How long a private search will take, before it is drawn. No torch on a CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from dpbench.execution import estimate, private_plan
from dpbench.execution.backend import Backend
from dpbench.execution.private_request import Request
from dpbench.execution.progress import duration
from dpbench.privacy import run_count
from dpbench.search import sobol
from dpbench.trial import Trial

if TYPE_CHECKING:
    from pathlib import Path

    from dpbench.store.private_searches import PrivateSearch

SAMPLE = 64  # settings, whose cost is that of the settings that may be drawn
LIKELY = 0.99  # of draws have no more runs than `runs_at_most`


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is known of the time from the request alone: no draw is made or read.

    Attributes:
        runs_at_most: In 99 of 100 draws; no number is the largest.
        seconds: That it takes on average.
        seconds_at_most: That it takes with so many runs, each as costly as one can be.
        place: Where it runs, and how many runs at a time.
    """

    runs_at_most: int
    seconds: float
    seconds_at_most: float
    place: str

    @property
    def values(self) -> dict[str, float]:
        """For JSON."""
        return {
            "seconds": self.seconds,
            "runs_in_99_of_100_draws": self.runs_at_most,
            "seconds_in_99_of_100_draws": self.seconds_at_most,
        }

    @property
    def sentence(self) -> str:
        """For the terminal."""
        return (
            f"It will take about {duration(self.seconds)} on average, {self.place}; in 99 of 100 "
            f"draws there are at most {self.runs_at_most:,} runs, which take at most "
            f"{duration(self.seconds_at_most)}."
        )


def sample(
    asked: Request, priced: "PrivateSearch", *, fastest: Callable[[Trial], str]
) -> Sequence[Trial]:
    """Trials of settings that lie evenly among those that may be drawn: none of them will run.

    Args:
        asked: What is asked for.
        priced: The same with its noise, as of `private_price.priced`.
        fastest: As of `grid_trials.trials`.
    """
    dimensions = len(asked.space)
    points = sobol.points(dimensions, SAMPLE) if dimensions else [[]]
    seeds = tuple(range(len(points)))
    even = replace(priced, points=tuple(map(tuple, points)), seeds=seeds)
    return private_plan.trials(asked, even, fastest=fastest)


def estimated(asked: Request, trials: Sequence[Trial], backend: Backend, out: "Path") -> Estimate:
    """How long the search takes.

    Args:
        asked: What is asked for.
        trials: As of `sample`.
        backend: Where it would run.
        out: The store, there or not, whose trials say how fast this machine is.
    """
    measured = estimate.measured_rates(out, device=backend.device)
    costs = [estimate.training_seconds(trial, measured) for trial in trials]
    most = run_count.quantile(asked.count, LIKELY)
    return Estimate(
        runs_at_most=most,
        seconds=estimate.START_SECONDS + asked.count.mean * fmean(costs) / backend.places,
        seconds_at_most=estimate.START_SECONDS + most * max(costs) / backend.places,
        place=str(backend),
    )
