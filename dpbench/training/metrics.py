"""What a model's outputs on a set of examples are worth, beside the loss."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dpbench.errors import BadInput

Metric = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Of all examples of a set.

    Attributes:
        loss: The mean loss.
        accuracy: Fraction of the examples; None where targets are no classes.
        balanced_accuracy: See `balanced_accuracy`; None where targets are no classes.
        auroc: See `auroc`; None where there are not two classes.
        metrics: The model's own, as a JSON object; None where it has none.
    """

    loss: float
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    auroc: float | None = None
    metrics: str | None = None


def of_classes(outputs: Tensor, targets: Tensor) -> dict[str, float | None]:
    """The fields of `Evaluation` that classes have.

    Args:
        outputs: Logits [M, classes].
        targets: Classes, int64 [M]; at least one.
    """
    correct = outputs.argmax(dim=1) == targets
    two = outputs.shape[1] == 2
    return {
        "accuracy": float(correct.sum()) / len(targets),
        "balanced_accuracy": balanced_accuracy(correct, targets),
        "auroc": auroc(outputs[:, 1] - outputs[:, 0], targets) if two else None,
    }


def balanced_accuracy(correct: Tensor, targets: Tensor) -> float:
    """The mean over the classes that are there of the fraction of their examples that is correct.

    Args:
        correct: Bool [M].
        targets: Classes, int64 [M].
    """
    sizes = torch.bincount(targets)
    right = torch.bincount(targets[correct], minlength=len(sizes))
    there = sizes > 0
    return float((right[there].cpu().double() / sizes[there].cpu()).mean())


def auroc(scores: Tensor, targets: Tensor) -> float | None:
    """The area under the ROC curve; None where one of the classes has no example.

    It is the probability that an example of class 1 has a higher score than one of class 0, where
    equal scores count a half (Hanley and McNeil 1982).

    Args:
        scores: Higher where class 1 is more likely, [M].
        targets: 0 or 1, int64 [M].
    """
    scores, positive = scores.cpu(), targets.cpu() == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return None
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks = last - (counts.double() - 1) / 2  # from 1; those of equal scores are their mean
    above = float(ranks[place][positive].sum()) - ones * (ones + 1) / 2
    return above / (ones * zeros)


def own(metrics: Mapping[str, Metric], outputs: Tensor, targets: Tensor) -> str | None:
    """What the model's own metrics give, as a JSON object; None where there are none.

    Raises:
        BadInput: One gives no number.
    """
    values = {name: _number(name, metric(outputs, targets)) for name, metric in metrics.items()}
    return json.dumps(values) if values else None


def _number(name: str, value: object) -> float | None:
    """The value; None where it is not finite, which JSON cannot say."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"Expected metric {name} to return a number, not {type(value).__name__}."
        ) from error
    return number if math.isfinite(number) else None
