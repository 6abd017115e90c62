import json

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import nn

from dpbench.errors import BadInput
from dpbench.training import evaluation, metrics


@pytest.mark.parametrize("seed", range(3))
def test_they_are_those_of_scikit_learn(seed: int) -> None:
    torch.manual_seed(seed)
    targets = torch.cat([torch.tensor([0, 1]), torch.randint(0, 2, (200,))])
    logits = torch.randn(202, 2).mul(3).round()  # with ties
    found = metrics.of_classes(logits, targets)
    expected = balanced_accuracy_score(targets, logits.argmax(1))
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert found["auroc"] == pytest.approx(roc_auc_score(targets, logits[:, 1] - logits[:, 0]))


def test_many_classes_have_no_auroc_and_a_missing_class_does_not_count() -> None:
    targets = torch.tensor([0, 0, 0, 3])  # two of four classes are there
    logits = torch.eye(4)[torch.tensor([0, 0, 1, 3])]
    found = metrics.of_classes(logits, targets)
    assert found["accuracy"] == 3 / 4
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["auroc"] is None
    assert metrics.of_classes(torch.rand(5, 2), torch.ones(5).long())["auroc"] is None


def test_evaluation_has_the_models_own_metrics() -> None:
    def most(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        assert len(outputs) == len(targets) == 2_500  # all at once
        return float(outputs.max())

    inputs, targets = torch.rand(2_500, 3), torch.randint(0, 3, (2_500,))
    own = {"most": most, "never": lambda *_: float("nan")}
    seen = evaluation.evaluate(nn.Identity(), inputs, targets, prepare=torch.Tensor.float, own=own)
    assert seen.metrics is not None
    assert json.loads(seen.metrics) == {"most": pytest.approx(float(inputs.max())), "never": None}
    with pytest.raises(BadInput, match="Expected metric many to return a number, not Tensor"):
        metrics.own({"many": lambda outputs, _: outputs}, inputs, targets)  # type: ignore[dict-item, return-value]


def test_targets_that_are_numbers_have_a_loss_and_no_accuracy() -> None:
    inputs = torch.rand(20, 1)
    seen = evaluation.evaluate(
        nn.Identity(),
        inputs,
        inputs + 2,
        prepare=torch.Tensor.float,
        loss=lambda output, target: (output - target).square()[:, 0],
        own={"bias": lambda outputs, targets: float((outputs - targets).mean())},
    )
    assert seen.loss == pytest.approx(4)
    assert seen.accuracy is seen.balanced_accuracy is seen.auroc is None
    assert json.loads(str(seen.metrics)) == {"bias": pytest.approx(-2)}
