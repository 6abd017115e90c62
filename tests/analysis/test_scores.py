from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import here
import pandas as pd
import pyarrow as pa
import pytest
from factories import WHERE, make_trial

from dpbench import report, store
from dpbench.analysis import choice, recommendation, scores
from dpbench.errors import BadInput
from dpbench.observations import Epoch
from dpbench.store import history

BY_METRIC = {  # the noise that is best by each
    None: 1.0,
    "accuracy": 1.0,
    "balanced_accuracy": 2.0,
    "loss": 4.0,
    "mine": 2.0,
    "mine:lowest": 1.0,
}


@pytest.fixture
def blank() -> Iterator[None]:
    with here.blank_figures():
        yield


def rows(seen: dict[float, Epoch]) -> list[dict[str, object]]:
    return [
        store.trial_row(make_trial(noise_multiplier=noise), epoch, WHERE)
        for noise, epoch in seen.items()
    ]


def frame(written: Sequence[dict[str, object]]) -> pd.DataFrame:
    return pa.Table.from_pylist(list(written), schema=store.TRIALS).to_pandas()


def epoch(loss: float, mine: float, **fields: Any) -> Epoch:
    own = f'{{"mine": {mine}}}'
    return Epoch(
        epoch=1, steps=22, sample_rate=0.05, epsilon=0.9, accountant="pld", test_loss=loss,
        test_metrics=own, **fields,
    )  # fmt: skip


CLASSES = {
    1.0: epoch(0.9, 1.0, test_accuracy=0.9, test_balanced_accuracy=0.5),
    2.0: epoch(0.8, 3.0, test_accuracy=0.8, test_balanced_accuracy=0.8),
    4.0: epoch(0.2, 2.0, test_accuracy=0.7, test_balanced_accuracy=0.7),
}
NUMBERS = {noise: epoch(loss, -loss) for noise, loss in ((1.0, 0.5), (2.0, 0.2), (4.0, 0.7))}


@pytest.mark.parametrize(("metric", "noise"), BY_METRIC.items())
def test_settings_are_chosen_by_the_metric(metric: str | None, noise: float) -> None:
    found = choice.within(scores.scored(frame(rows(CLASSES)), metric), 1.0, "poisson")
    assert found is not None
    assert found.arm["noise_multiplier"] == noise


def test_a_metric_that_no_trial_has_is_named() -> None:
    with pytest.raises(BadInput, match=r"has the metric 'accurcy': did you mean accuracy\?"):
        scores.scored(frame(rows(CLASSES)), "accurcy")
    with pytest.raises(BadInput, match=r"choose_by=loss:lowest to be loss"):
        scores.scored(frame(rows(CLASSES)), "loss:lowest")
    assert scores.names(frame(rows(CLASSES))) == ["accuracy", "balanced_accuracy", "loss", "mine"]


def test_without_classes_the_lowest_loss_is_the_best() -> None:
    trials = scores.scored(frame(rows(NUMBERS)))
    (answer,) = recommendation.answers(trials, pd.DataFrame(), at=(1.0,))
    assert answer.best is not None
    assert answer.best.setting.noise_multiplier == 2.0
    assert (answer.best.metric, answer.best.chosen_by) == ("loss", "test_loss")
    assert answer.best.test_metric == pytest.approx(0.2)


def test_rows_of_older_versions_have_no_metrics() -> None:
    old = pa.Table.from_pylist(rows(CLASSES), schema=store.TRIALS)
    old = old.drop_columns([name for name in old.column_names if "balanced" in name])
    old = old.drop_columns(["test_auroc", "validation_auroc", "test_metrics"])
    read = store.schema.conform(old, store.TRIALS).to_pandas()
    assert read["test_balanced_accuracy"].isna().all()
    assert read["test_metrics"].isna().all()


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("seen", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_a_report_chooses_by_it(
    seen: dict[float, Epoch], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.create(tmp_path)
    written = rows(seen)
    plain = make_trial("non-private")
    written.append(store.trial_row(plain, next(iter(seen.values())), WHERE) | {"epsilon": None})
    for row in written:
        store.write_trial(tmp_path, [row])
    arguments = [str(tmp_path), "--answer-at", "9"]
    with here.blank_figures():
        assert report.main([*arguments, "--choose-by", "mine"]) == 0
    said = capsys.readouterr().out
    assert "Settings are chosen by mine (higher is better); on the test set it is" in said
    assert "nan" not in said
    with here.blank_figures():
        assert report.main(arguments) == 0
    said = capsys.readouterr().out
    assert ("chosen by loss (lower is better)" in said) == (seen is NUMBERS)
    asked = history.asked("dpbench.sweep", [], choose_by="mine:lowest", trial_ids=["some"])
    history.write(tmp_path, asked)  # the metric of a sweep is that of its report
    assert report.main(arguments) == 0
    assert "chosen by mine (lower is better)" in capsys.readouterr().out
    assert report.main([*arguments, "--choose-by", "no-such"]) == 2
    assert "No trial has the metric 'no-such'" in capsys.readouterr().err
