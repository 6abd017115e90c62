"""What a private search spends, and the noise that its epsilon needs: of any run it may draw."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dpbench import datasets
from dpbench.execution.private_request import Request
from dpbench.search.ranges import Range

if TYPE_CHECKING:
    from dpbench.privacy.selection import Run
    from dpbench.store.private_searches import PrivateSearch


def priced(asked: Request) -> "PrivateSearch":
    """The search with its noise and what it spends, before it is drawn.

    Raises:
        BadInput: No noise reaches the epsilon, or a batch is larger than the training set.
    """
    from dpbench.privacy import accounting, selection
    from dpbench.store.private_searches import PrivateSearch

    delta = asked.grid.delta
    noises = _solved(asked)
    runs = _runs(asked, noises)
    every = [run.noise_multiplier for run in runs]
    most = every if asked.solved else asked.grid.noise_multiplier
    highest = most.high if isinstance(most, Range) else max(most or every)
    return PrivateSearch(
        asked=asked.asked,
        distribution=asked.count.distribution,
        mean=asked.count.mean,
        sampling=asked.grid.sampling[0],
        delta=delta,
        epsilon=selection.epsilon(runs, asked.count, delta=delta),
        epsilon_of_run=max(
            accounting.spent(
                noise_multiplier=run.noise_multiplier,
                sample_rate=run.sample_rate,
                steps=run.steps,
                delta=delta,
            ).epsilon
            for run in selection.worst(runs)
        ),
        noises=[(*schedule, noise) for schedule, noise in noises.items()],
        noise_multipliers=(min(every), float(highest)),
        schedules=_in_words(asked),
        examples=datasets.train_examples(asked.dataset, int(asked.grid.validation_examples)),
        held_out=asked.held_out,
        score_noise=selection.score_noise(runs) if asked.private_scores else None,
        points=(),
        seeds=(),
        score_draws=(),
    )


def _solved(asked: Request) -> dict[tuple[int, int], float]:
    """The noise of each batch size and number of epochs; empty where it is not solved for."""
    if not asked.solved:
        return {}
    from dpbench.privacy import calibration, selection

    of = {each: _rate_and_steps(asked, *each) for each in asked.schedules}
    if asked.total_epsilon is not None:
        noises = selection.noise_multipliers_for(
            asked.total_epsilon, set(of.values()), asked.count, delta=asked.grid.delta
        )
        return {each: noises[schedule] for each, schedule in of.items()}
    (target,) = asked.grid.target_epsilon or ()
    shuffled = asked.grid.sampling[0] == "shuffle"
    return {
        (batch_size, epochs): calibration.noise_multiplier_for(
            target_epsilon=target,
            sample_rate=rate,
            steps=steps,
            delta=asked.grid.delta,
            shuffled_epochs=epochs if shuffled else None,
        )
        for (batch_size, epochs), (rate, steps) in of.items()
    }


def _runs(asked: Request, noises: Mapping[tuple[int, int], float]) -> "list[Run]":
    """Every run that may be drawn; of a range of noise, those with the least."""
    from dpbench.privacy.selection import Run

    drawn = asked.grid.noise_multiplier
    values = [drawn.low] if isinstance(drawn, Range) else list(drawn or ())
    found = []
    for schedule in asked.schedules:
        rate, steps = _rate_and_steps(asked, *schedule)
        found += [
            Run(noise_multiplier=float(noise), sample_rate=rate, steps=steps)
            for noise in ([noises[schedule]] if noises else values)
        ]
    return found


def _rate_and_steps(asked: Request, batch_size: int, epochs: int) -> tuple[float, int]:
    """Of a run's steps in which an example may take part, as `selection` takes them.

    Of shuffled batches, it takes part in one an epoch: as in a step with every example.
    """
    of = (asked.dataset, batch_size, int(asked.grid.validation_examples))
    steps = datasets.steps_per_epoch(*of)
    if asked.grid.sampling[0] == "shuffle":
        return 1.0, epochs
    return datasets.sample_rate(*of), epochs * steps


def _in_words(asked: Request) -> str:
    sizes, epochs = (
        " or ".join(f"{each:,}" for each in asked.grid.values(name))
        for name in ("batch_size", "epochs")
    )
    kind = "Poisson-sampled" if asked.grid.sampling[0] == "poisson" else "shuffled"
    size = "expected size" if kind == "Poisson-sampled" else "size"
    return f"{kind} batches of {size} {sizes} ({epochs} epochs)"
