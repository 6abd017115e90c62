"""What a store answers: the best setting within an epsilon, its accuracy and its cost."""

from dataclasses import dataclass
from typing import Literal

from dpbench.analysis.price import Price
from dpbench.analysis.statistics import Difference

Verdict = Literal["loses", "not-told-apart", "beats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A private arm up to one of its epochs, under the names of `Trial`.

    Its epsilon holds for `steps` batches of that expected size out of `train_examples` alone; both
    are None where they were not counted.
    """

    model: str
    engine: str
    sampling: str
    noise_multiplier: float
    max_grad_norm: float
    clipping: str
    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float
    epochs: int
    train_examples: int | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Test accuracy over seeds, a fraction, with its 95 % t interval and its range.

    `low` and `high` are NaN for one seed, and where the interval is wider than half of the scale.
    """

    mean: float
    low: float
    high: float
    seeds: int
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """An engine's time of a step over the non-private step's, with the median's interval."""

    engine: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The setting to choose within an epsilon.

    Attributes:
        setting: What to run.
        epsilon: That it spends, in one run.
        delta: That goes with it.
        accountant: Which gave that epsilon.
        accuracy: That it reaches, over the seeds of `confirmed_on` or, where there are none, over
            those by which it was chosen.
        confirmed_on: Seeds that had no part in the choice.
        accuracy_when_chosen: Over the seeds by which it was chosen: too good, as it was picked.
        loss: Accuracy of the best non-private arm over it, paired by seed; None without one.
        verdict: What that loss says: `loses`; `not-told-apart` where its interval holds 0, or
            there is none and the private arm is ahead; `beats` where the private arm is ahead for
            certain, which says that the baseline is weak. None without a loss.
        step_times: Of its own engine, first, and of the others; empty where none were measured.
        arms: Among how many it was chosen.
        chosen_by: `validation_accuracy`, or `test_accuracy` where not all have that; of another
            metric than accuracy, the same with its name.
        metric: The metric that it was chosen by, a name of `scores.names`.
        test_metric: Its mean on the test set, over the same seeds as `accuracy`.
        ahead: Its accuracy over the next's on the seeds by which it was chosen, paired by seed;
            None where it has no rival.
        next: The setting that is next.
        price: What choosing costs; None where nothing was chosen, or steps were not counted.
        statement: The guarantee of one training, as a paragraph that can be put in a paper.
    """

    setting: Setting
    epsilon: float
    delta: float
    accountant: str
    accuracy: Accuracy
    confirmed_on: tuple[int, ...]
    accuracy_when_chosen: Accuracy
    loss: Difference | None
    verdict: Verdict | None
    step_times: tuple[StepTime, ...]
    arms: int
    chosen_by: str
    metric: str
    test_metric: float
    ahead: Difference | None
    next: Setting | None
    price: Price | None
    statement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer for one epsilon and one way to draw batches, which fixes the neighbours.

    `best` is None where no arm stays within the epsilon.
    """

    epsilon_at_most: float
    sampling: str
    best: Best | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The best non-private arm, what a loss is counted from; chosen and confirmed as in `Best`.

    Attributes:
        learning_rates: That were tried at its batch size, rising.
        best_epoch: At which its mean test accuracy, or the metric in its place, was best.
        metric: As of `Best`.
        test_metric: As of `Best`.
    """

    dataset: str
    model: str
    engine: str
    batch_size: int
    optimizer: str
    learning_rate: float
    epochs: int
    sampling: str
    accuracy: Accuracy
    confirmed_on: tuple[int, ...]
    arms: int
    chosen_by: str
    learning_rates: tuple[float, ...]
    best_epoch: int
    metric: str
    test_metric: float
