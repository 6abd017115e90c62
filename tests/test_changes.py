import pandas as pd
from test_differences import BEFORE, arm, moved

from dpbench import changes, command, differences


def test_a_line_says_the_settings_and_what_changed() -> None:
    accuracy = changes.labelled(differences.accuracy(arm(BEFORE), moved([-0.02] * 4)))
    epsilon = changes.labelled(differences.epsilon(arm([0.9]), arm([0.9], epsilon=3.0)))
    trials = changes.labelled(differences.trials(arm([0.9]), arm([0.9])))
    none = pd.DataFrame(columns=["label", "regression"])
    assert list(changes.regressions(trials, accuracy, none, epsilon)) == [
        "opacus-hooks noise 1 clip 1 batch 64 lr 0.1 epochs 1: accuracy -2.00 points",
        "opacus-hooks noise 1 clip 1 batch 64 lr 0.1 epochs 1: epsilon 2 -> 3",
    ]
    header, rows = changes.accuracy_table(accuracy)
    assert rows[0][1:6] == ("4", "90.30", "88.30", "-2.00", "[-2.00, -2.00]")
    assert command.table(header, rows).splitlines()[1].endswith("REGRESSION")


def test_only_epsilons_that_differ_are_in_the_table() -> None:
    same = changes.labelled(differences.epsilon(arm([0.9]), arm([0.9])))
    assert changes.epsilon_table(same)[1] == []
