from pathlib import Path

import torch
from factories import make_trial
from sklearn.datasets import load_breast_cancer

from dpbench import datasets
from dpbench.datasets import loading
from dpbench.training import loop


def test_its_sets_are_a_partition_of_the_examples() -> None:
    data = loading.load("breast-cancer", Path("unused"), "cpu")
    features, labels = load_breast_cancer(return_X_y=True)
    rows = torch.cat([data.train[0], data.test[0]]).tolist()
    assert sorted(rows) == sorted(torch.from_numpy(features).float().tolist())
    assert int(data.train[1].sum() + data.test[1].sum()) == labels.sum()
    assert 0.5 < float(data.test[1].float().mean()) < 0.7  # the whole set has 0.63


def test_the_guarantee_says_that_its_constants_are_not_covered() -> None:
    sentence = datasets.spec("breast-cancer").preprocessing
    assert sentence is not None
    assert sentence.startswith("Features are standardised by constants, the mean and standard")
    assert sentence.endswith("and the guarantee does not cover them.")


def test_its_default_model_learns_it_with_privacy() -> None:
    data = loading.load("breast-cancer", Path("unused"), "cpu")
    trial = make_trial(
        "bookkeeping", dataset="breast-cancer", model="logistic", batch_size=32, epochs=20
    )
    *_, last = loop.train(trial, data)
    assert last.test_accuracy is not None
    assert last.test_accuracy > 0.9
