"""A trial that a longer one repeats is one mechanism with it."""

import pandas as pd
from factories import WHERE, make_trial

from dpbench import store
from dpbench.analysis import price, trial_rows
from dpbench.observations import Epoch
from dpbench.trial import Trial


def rows(
    trial: Trial, reached: int, *, derivation: str = "trial", device: str = "cpu"
) -> list[dict[str, object]]:
    return [
        store.trial_row(
            trial,
            Epoch(
                epoch=epoch,
                steps=22 * epoch,
                sample_rate=0.05,
                test_accuracy=0.5,
                epsilon=1.0,
                noise_derivation="system" if derivation == "system" else "trial",
            ),
            WHERE,
        )
        | {"device": device}
        for epoch in range(1, reached + 1)
    ]


def frame(*several: list[dict[str, object]]) -> pd.DataFrame:
    import pyarrow as pa

    every = [row for each in several for row in each]
    return pa.Table.from_pylist(every, schema=store.TRIALS).to_pandas()


SHORT, LONG = make_trial(epochs=1), make_trial(epochs=4)


def repeated(trials: pd.DataFrame) -> set[str]:
    return set(trials[trial_rows.repeats(trials)]["trial_id"])


def test_a_longer_trial_repeats_a_shorter_one() -> None:
    middle = make_trial(epochs=2)
    every = frame(rows(SHORT, 1), rows(middle, 2), rows(LONG, 4))
    assert repeated(every) == {SHORT.trial_id, middle.trial_id}
    assert repeated(frame(rows(SHORT, 1))) == set()


def test_no_other_trial_does() -> None:
    for other in (
        rows(make_trial(epochs=4, seed=1), 4),
        rows(make_trial(epochs=4, learning_rate=0.2), 4),
        rows(LONG, 4, device="cuda:0"),  # its generator gives other noise
        rows(LONG, 0),
    ):
        assert repeated(frame(rows(SHORT, 1), other)) == set()
    fresh = [rows(each, each.epochs, derivation="system") for each in (SHORT, LONG)]
    assert repeated(frame(*fresh)) == set()


def test_a_training_that_goes_on_is_paid_for_once() -> None:
    other = rows(make_trial(epochs=4, learning_rate=0.2), 4)
    alone, both = frame(rows(LONG, 4), other), frame(rows(SHORT, 1), rows(LONG, 4), other)
    none = alone.iloc[:0]
    expected = price.price(alone, none, none, sampling="poisson", delta=1e-5)
    assert expected is not None
    assert expected.settings == 2
    assert price.price(both, none, none, sampling="poisson", delta=1e-5) == expected
