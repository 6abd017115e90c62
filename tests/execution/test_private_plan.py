"""What a private search asks for, refuses, spends and draws; no trial is trained."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpbench import Grid, datasets, store
from dpbench.errors import BadInput, StoreError
from dpbench.execution import private_plan, private_price, private_request, private_run
from dpbench.execution.private_request import Request
from dpbench.execution.sweep_plan import plan_sweep
from dpbench.privacy import run_count, selection
from dpbench.privacy.run_count import RunCount
from dpbench.search.ranges import Range
from dpbench.store import history, private_searches
from dpbench.trial import Trial

RATES = Range(0.1, 16.0, log=True)


def request(
    mean: float | None = 3,
    *,
    total_epsilon: Any = None,
    private_scores: bool = False,
    **axes: Any,
) -> Request:
    fixed: dict[str, Any] = {"model": "logistic", "batch_size": 256, "epochs": 1}
    return private_request.request(
        [Grid(**fixed | {"max_grad_norm": 1.0} | axes)],
        "digits",
        mean=mean,
        distribution=None,
        total_epsilon=total_epsilon,
        private_scores=private_scores,
    )


def fastest(_: Trial) -> str:
    return "bookkeeping"


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"batch_size": Range(64, 256)}, "batch_size to be a list .* not the range 64:256"),
        ({"epochs": Range(1, 4)}, "epochs to be a list"),
        ({"target_epsilon": [1, 3]}, r"one target_epsilon .* not 1\.0, 3\.0"),
        ({"sampling": ["poisson", "shuffle"]}, "one sampling"),
        ({"engine": ["fused", "bookkeeping"]}, "one engine"),
        ({"engine": "non-private"}, "a private engine"),
        ({"seed": [0, 1]}, "no --seeds"),
        ({"clip_only": True, "noise_multiplier": 1}, "every run to have noise"),
        ({"noise_multiplier": [0, 1]}, "every run to have noise"),
        ({"noise_multiplier": 1, "total_epsilon": 3}, "--noise-multiplier or --total-epsilon"),
        ({"target_epsilon": 1, "total_epsilon": 3}, "--target-epsilon or --total-epsilon"),
        ({"total_epsilon": -1}, "total_epsilon=-1 > 0"),
        ({"mean": 0.5}, r"0\.5 >= 1"),
        ({"batch_size": list(range(1, 66))}, "at most 64 pairs .* not 65"),
    ],
)
def test_what_the_bound_does_not_cover_is_refused(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        request(**axes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"confirm": 3}, "no --confirm .* trains the chosen setting again"),
        ({"answer_at": [1.0]}, "no --answer-at"),
        ({"search_method": "optuna"}, "no --search-method .* at random"),
        ({"early_stop": True}, "no --early-stop .* depend on the others"),
        ({"tuned_in": ["results"]}, "no --tuned-in"),
    ],
)
def test_what_takes_no_part_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan_sweep([Grid()], dataset="digits", data_root=Path(), total_epsilon=3, search=5, **given)


def test_noisy_scores_are_of_a_private_selection() -> None:
    with pytest.raises(BadInput, match="--private-selection or --total-epsilon with"):
        plan_sweep([Grid()], dataset="digits", data_root=Path(), private_scores=True)


def test_noisy_scores_count_right_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        datasets, "spec", lambda name, known=datasets.spec: replace(known(name), classes=1)
    )
    with pytest.raises(BadInput, match="Expected classes as targets of digits"):
        request(private_scores=True)


def test_no_run_is_tried_again_or_ended_early() -> None:
    for given in ({"retry_failed": True}, {"trial_timeout": 9.0}):
        with pytest.raises(BadInput, match=r"Expected no --(retry-failed|trial-timeout)"):
            private_run.refuse(**{"retry_failed": None, "trial_timeout": None} | given)
    private_run.refuse(retry_failed=None, trial_timeout=None)


def test_settings_are_drawn_from_noise_multipliers_too() -> None:
    assert set(request(noise_multiplier=[1, 2], learning_rate=RATES).space.dimensions) == {
        "noise_multiplier",
        "learning_rate",
    }
    assert set(request(total_epsilon=3, learning_rate=RATES).space.dimensions) == {"learning_rate"}
    assert set(request(target_epsilon=3).space.dimensions) == set()


def test_a_tenth_is_held_out_where_nothing_is_said() -> None:
    assert request().held_out == 144
    assert request(validation_examples=100).held_out == 100
    assert not request().grid.baseline
    assert request().grid.fresh_noise


def test_the_bound_is_that_of_the_worst_run_that_may_be_drawn() -> None:
    found = private_price.priced(
        request(noise_multiplier=[1, 4], batch_size=[64, 256], epochs=[1, 2])
    )
    runs = [
        selection.Run(noise_multiplier=1.0, sample_rate=size / 1_293, steps=2 * round(1_293 / size))
        for size in (64, 256)
    ]
    count = RunCount(distribution="geometric", mean=3)
    assert found.epsilon == selection.epsilon(runs, count, delta=1e-5)
    assert found.epsilon > selection.epsilon(runs[:1], count, delta=1e-5)
    assert found.noise_multipliers == (1.0, 4.0)
    of_range = private_price.priced(request(noise_multiplier=Range(1.0, 4.0), batch_size=[64, 256]))
    assert of_range.noise_multipliers == (1.0, 4.0)
    assert of_range.epsilon < found.epsilon  # one epoch and not two


def test_each_schedule_has_the_noise_for_the_total_epsilon() -> None:
    found = private_price.priced(request(total_epsilon=3, batch_size=[16, 32]))
    assert 2.95 < found.epsilon <= 3
    assert [each[:2] for each in found.noises] == [(16, 1), (32, 1)]
    assert found.noises[0][2] < found.noises[1][2]
    assert found.epsilon_of_run < 2


def test_shuffled_batches_are_an_example_in_each_epoch() -> None:
    found = private_price.priced(request(noise_multiplier=4, sampling="shuffle", epochs=3))
    run = selection.Run(noise_multiplier=4.0, sample_rate=1.0, steps=3)
    count = RunCount(distribution="geometric", mean=3)
    assert found.epsilon == selection.epsilon([run], count, delta=1e-5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store.create(tmp_path / "store")
    return tmp_path / "store"


def test_the_same_request_is_never_drawn_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_count, "draw", lambda *_: 3)
    asked = request(noise_multiplier=[1, 2], learning_rate=RATES)
    first, trials = private_plan.drawn(asked, root, fastest=fastest)
    assert len({trial.trial_id for trial in trials}) == 3
    assert {trial.noise_source for trial in trials} == {"system"}
    assert {trial.noise_multiplier for trial in trials} <= {1.0, 2.0}
    assert list(first.trial_ids) == [trial.trial_id for trial in trials]

    def other_engine(_: Trial) -> str:
        return "opacus-hooks"

    again, same = private_plan.drawn(asked, root, fastest=other_engine)
    assert same == trials
    assert (again.points, again.seeds) == (
        [list(point) for point in first.points],
        list(first.seeds),
    )
    other, _ = private_plan.drawn(replace(asked, count=RunCount(mean=4)), root, fastest=fastest)
    assert other.key != first.key
    assert len(private_searches.read(root)) == 2


def test_a_draw_that_came_to_other_trials_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_count, "draw", lambda *_: 1)
    asked = request(noise_multiplier=[1, 2])
    search, (trial,) = private_plan.drawn(asked, root, fastest=fastest)
    path = root / "private_searches" / f"{search.key}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"trial_ids": ["0" * 16]}))
    with pytest.raises(BadInput, match="has changed since"):
        private_plan.drawn(asked, root, fastest=fastest)
    path.write_text(json.dumps(content))
    history.write(root, history.asked("dpbench.sweep", [], trial_ids=[trial.trial_id]))
    history.mark_dropped(root, [trial.trial_id])
    with pytest.raises(BadInput, match="Runs of this search were removed"):
        private_plan.drawn(asked, root, fastest=fastest)
    path.write_text("{")
    with pytest.raises(StoreError, match="Cannot read the draw"):
        private_plan.drawn(asked, root, fastest=fastest)
