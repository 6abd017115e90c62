"""The best run of a private search, of rows that no trial has made."""

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from factories import WHERE, make_trial

from dpbench import store
from dpbench.analysis import private_best, scores
from dpbench.observations import Epoch, Status
from dpbench.store.private_searches import PrivateSearch
from dpbench.trial import Trial

TRIALS = [make_trial(seed=seed, noise_source="system") for seed in (11, 5, 8)]


def search(**changed: Any) -> PrivateSearch:
    asked: dict[str, Any] = {
        "asked": {"dataset": "digits"},
        "distribution": "geometric",
        "mean": 3.0,
        "sampling": "poisson",
        "delta": 1e-5,
        "epsilon": 2.5,
        "epsilon_of_run": 1.0,
        "noises": (),
        "noise_multipliers": (1.0, 2.0),
        "schedules": "Poisson-sampled batches of expected size 64 (1 epochs)",
        "examples": 1_293,
        "held_out": 144,
        "score_noise": None,
        "points": [(), (), ()],
        "seeds": [trial.seed for trial in TRIALS],
        "score_draws": (0.0, 0.0, 0.0),
        "trial_ids": [trial.trial_id for trial in TRIALS],
    }
    return PrivateSearch(**asked | changed)


def rows(*accuracies: float | Status) -> pd.DataFrame:
    """A row a trial: its accuracy, or how it failed."""
    found = [_row(trial, accuracy) for trial, accuracy in zip(TRIALS, accuracies, strict=False)]
    return scores.scored(pa.Table.from_pylist(found, schema=store.TRIALS).to_pandas())


def _row(trial: Trial, accuracy: float | Status) -> dict[str, Any]:
    if isinstance(accuracy, str):
        seen = Epoch(epoch=1, status=accuracy, reason="loss is not finite")
    else:
        seen = Epoch(epoch=trial.epochs, validation_accuracy=accuracy, test_accuracy=accuracy / 2)
    return store.trial_row(trial, seen, WHERE)


def test_the_highest_score_wins_and_the_first_of_equal_ones() -> None:
    best = private_best.best(search(), rows(0.5, 0.75, 0.75))
    assert (best.trial_id, best.score, best.test_metric) == (TRIALS[1].trial_id, 0.75, 0.375)
    assert best.setting["noise_multiplier"] == TRIALS[1].noise_multiplier
    assert best.ended


def test_a_failed_run_scores_lowest_and_ends_the_search() -> None:
    best = private_best.best(search(), rows("failed", 0.1, "failed"))
    assert (best.trial_id, best.ended) == (TRIALS[1].trial_id, True)
    nothing = private_best.best(search(), rows("failed", "failed", "failed"))
    assert (nothing.trial_id, nothing.score, nothing.ended) == (None, None, True)


def test_there_is_no_best_before_every_run_has_ended() -> None:
    best = private_best.best(search(), rows(0.5, 0.75))
    assert (best.trial_id, best.ended) == (None, False)


def test_a_crashed_run_is_waited_for_until_the_search_ends_without_it() -> None:
    crashed = rows(0.5, "crashed", 0.25)
    assert private_best.best(search(), crashed).trial_id is None
    assert private_best.best(search(ended=True), crashed).trial_id == TRIALS[0].trial_id


def test_noise_on_right_answers_decides_and_is_what_is_said() -> None:
    noisy = search(score_noise=14.4, score_draws=(3.0, 0.0, 0.0))
    best = private_best.best(noisy, rows(0.5, 0.75, 0.7))
    assert best.trial_id == TRIALS[0].trial_id
    assert best.score == pytest.approx(0.5 + 3 * 14.4 / 144)
    assert (
        "Gaussian noise of standard deviation 14.4, so that the guarantee covers" in best.statement
    )


def test_other_searches_on_the_same_examples_add() -> None:
    other, elsewhere = search(epsilon=1.5), search(asked={"dataset": "mnist"})
    said = private_best.best(search(), rows(0.5, 0.5, 0.5), [other, elsewhere]).statement
    assert "one of 2 searches" in said
    assert "together they spend at most epsilon = 4 at delta = 2e-5" in said
    alone = private_best.best(search(), rows(0.5, 0.5, 0.5), [elsewhere]).statement
    assert "together" not in alone
    for part in ("144 held-out examples", "The guarantee does not cover these", "epsilon = 2.5"):
        assert part in alone


def test_what_a_users_data_computes_from_the_examples_is_not_covered() -> None:
    found = private_best.best(search(asked={"dataset": "mine.py:load"}), rows(0.5, 0.6, 0.7))
    assert "Constants that mine.py:load computes from the training examples" in found.statement
