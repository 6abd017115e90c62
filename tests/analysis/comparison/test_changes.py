import math

import pandas as pd
import pytest
from factories import BEFORE, arm, moved

from dpbench import strings
from dpbench.analysis.comparison import changes, differences
from dpbench.reporting import comparison_text


def test_a_regression_is_said_in_words_and_marked_in_its_table() -> None:
    accuracy = changes.labelled(differences.accuracy(arm(BEFORE), moved([-0.02] * 4)))
    (row,) = changes.worse(accuracy)
    assert row["label"] == "opacus-hooks noise 1 clip 1 batch 64 lr 0.1 epochs 1"
    assert changes.fell(row) == "accuracy -2.00 points over 4 seeds"
    (row,) = changes.worse(differences.epsilon(arm([0.9]), arm([0.9], epsilon=3.0)))
    assert changes.spends(row) == "epsilon 2 -> 3"
    assert changes.worse(differences.trials(arm([0.9]), arm([0.9]))) == []
    header, rows = changes.accuracy_table(accuracy)
    assert rows[0][1:6] == ("4", "90.30", "88.30", "-2.00", "[-2.00, -2.00]")
    assert strings.table(header, rows).splitlines()[1].endswith("REGRESSION")


def test_an_interval_that_is_wider_than_half_of_the_scale_is_none() -> None:
    """Two seeds that differ by some points say nothing of the mean beyond their differences."""
    wide = changes.labelled(differences.accuracy(arm([0.5, 0.5]), arm([0.2, 0.8])))
    (row,) = changes.accuracy_table(wide)[1]
    assert row[4:6] == ("+0.00", "none")
    assert len(changes.moved(wide)) == 1  # though the mean is as before
    same = changes.labelled(differences.accuracy(arm([0.5, 0.6]), arm([0.5, 0.6])))
    assert changes.accuracy_table(same)[1][0][4:6] == ("+0.00", "[+0.00, +0.00]")
    assert len(changes.moved(same)) == 0


def test_only_epsilons_that_differ_are_in_the_table() -> None:
    same = changes.labelled(differences.epsilon(arm([0.9]), arm([0.9])))
    assert changes.epsilon_table(same)[1] == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dataset": "mnist"}, "epochs 1 mnist"),
        ({"delta": 1e-6}, "epochs 1 delta 1e-06"),
        ({"validation_examples": 300.0}, "epochs 1 300 held out"),
        ({"momentum": 0.9}, "epochs 1 momentum 0.9"),
        ({"sampling": "shuffle"}, "epochs 1 shuffle"),
    ],
)
def test_arms_that_differ_are_named_apart(changed: dict[str, object], words: str) -> None:
    both = pd.concat([arm(BEFORE), arm(BEFORE).assign(**changed)])
    found = changes.labelled(differences.accuracy(both, both))
    labels = found.loc[found["arms"] == 1, "label"]
    assert labels.is_unique
    assert labels.iloc[1].endswith(words)
    assert found["label"].is_unique


def test_an_epsilon_that_is_lost_is_said_to_be_none() -> None:
    lost = arm([0.9], epsilon=math.nan).assign(accountant=None)
    found = changes.labelled(differences.epsilon(arm([0.9]), lost))
    assert changes.epsilon_table(found)[1][0][1:] == ("2 (pld)", "none", "", "REGRESSION")
    (row,) = changes.worse(found)
    assert changes.spends(row) == "epsilon 2 -> none"
    same = changes.labelled(differences.epsilon(lost, lost))
    assert not same["regression"].any()


def test_arms_that_did_not_move_are_left_out() -> None:
    before = pd.concat([arm([0.9, 0.91], noise) for noise in (1, 2, 3)])
    after = before.assign(test_accuracy=[0.9, 0.91, 0.901, 0.91, 0.9, 0.91])
    found = differences.accuracy(before, before)
    assert changes.moved(found)["arms"].tolist() == [3]
    found = changes.labelled(differences.accuracy(before, after))
    assert changes.moved(found)["label"].tolist() == [
        "opacus-hooks noise 2 clip 1 batch 64 lr 0.1 epochs 1",
        "opacus-hooks, all 3 arms",
    ]
    there_and_back = differences.accuracy(arm([0.9, 0.91]), arm([0.91, 0.9]))
    assert len(changes.moved(there_and_back)) == 1


def test_the_worst_of_many_are_the_means_the_regressions_and_the_largest_falls() -> None:
    frame = pd.DataFrame(
        {
            "arms": [1, 1, 1, 1, 9],
            "difference": [-0.1, -0.3, 0.2, -0.2, 0.0],
            "regression": [True, False, False, False, False],
        }
    )
    assert changes.worst(frame, 3).index.tolist() == [0, 1, 4]
    assert changes.worst(frame, 5) is frame
    growth = pd.DataFrame({"growth": [1.0, 3.0, 2.0], "regression": [True, False, False]})
    assert changes.worst(growth, 2).index.tolist() == [0, 1]


def test_versions_fit_a_narrow_terminal() -> None:
    rows = [
        ("dataset", "digits", "digits", ""),
        ("torch_version", "2.14.1", "2.15.0", "changed"),
        ("device_name", *["AMD EPYC (family 25, model 17, stepping 1)"] * 2, ""),
    ]
    table: changes.Table = (("", "before", "after", ""), list(rows))
    assert comparison_text.versions(table, 120) == strings.table(*table)
    assert comparison_text.versions(table, 80).splitlines() == [
        "The same on both sides: dataset digits, device_name AMD EPYC (family 25, model",
        "17, stepping 1).",
        "torch_version",
        "  before: 2.14.1",
        "  after: 2.15.0",
    ]
