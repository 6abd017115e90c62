"""The answer in words: the same sentences for the terminal and for the page."""

import math
from collections.abc import Iterator, Sequence

from dpbench import engines, strings
from dpbench.analysis import metrics
from dpbench.analysis.answers import Answer, Baseline, Best, StepTime
from dpbench.analysis.price import Price
from dpbench.analysis.statistics import Difference
from dpbench.engines.opacus import FAMILY
from dpbench.privacy.guarantee import ACCOUNTANTS, rounded_up
from dpbench.reporting.quantities import accuracy, points, ratio, setting, short
from dpbench.trial import DEFAULT_MODEL


def baseline(found: Baseline | None) -> str:
    """What a loss is counted from, in one sentence."""
    if found is None:
        return "There is no non-private trial to compare with."
    shuffled = "" if found.sampling == "poisson" else ", shuffled"
    model = "" if found.model == DEFAULT_MODEL else f"model {found.model}, "
    chosen = f", of {found.arms} chosen on the {_set(found.chosen_by)} set,"
    optimizer = "" if found.optimizer == "sgd" else f"optimizer {found.optimizer}, "
    return (
        f"On {found.dataset}, the best non-private setting{chosen if found.arms > 1 else ''} "
        f"reaches {_reached(found)}{_fresh(found.confirmed_on)} with {model}batch size "
        f"{found.batch_size}, {optimizer}learning rate {found.learning_rate:g} and "
        f"{strings.counted(found.epochs, 'epoch')}{shuffled}."
    )


def sentence(answer: Answer, against: Baseline | None = None) -> str:
    """The best setting, its accuracy, what it loses and what it costs in time: one sentence.

    Args:
        answer: For one epsilon and sampling.
        against: The baseline of its loss; explains an answer that loses nothing.
    """
    shuffled = "With shuffled batches and" if answer.sampling == "shuffle" else "With"
    within = f"{shuffled} epsilon at most {answer.epsilon_at_most:g}"
    best = answer.best
    if best is None:
        return f"{within}, there is no answer: no epoch of a private trial has spent so little."
    return (
        f"{within} (it spends {rounded_up(best.epsilon, 3)} at delta {short(best.delta)}, by "
        f"{ACCOUNTANTS[best.accountant]}), the best setting is {setting(best.setting)}: it reaches "
        f"{_reached(best)}{_fresh(best.confirmed_on)}, {_lost(best, against)}, and "
        f"{_time(best.step_times)}."
    )


def _fresh(seeds: Sequence[int]) -> str:
    return " on seeds that did not choose it" if seeds else ""


def remarks(answer: Answer) -> Iterator[str]:
    """What to know of the choice: how it was made, how clear it is, and what choosing costs."""
    best = answer.best
    if best is None:
        return
    yield from _chosen(best)
    if best.next is not None and best.ahead is not None and best.ahead.seeds > 1:
        clear = "" if best.ahead.low > 0 else ", so the two may be equally good"
        yield (
            f"{_further(best.ahead)} than the next ({setting(best.next)}), paired by seed{clear}."
        )
    if best.price is not None:
        yield _price(best, best.price)


def _chosen(best: Best) -> Iterator[str]:
    """Among how many it was chosen, by what, and on which seeds its accuracy is."""
    of = _set(best.chosen_by)
    among = f"It is the best of {strings.counted(best.arms, 'arm')} on the {of} set"
    if best.metric != "accuracy":
        among += f" by {_metric(best.metric)}"
    if best.confirmed_on:
        yield (
            f"{among}. Its accuracy is that of {strings.named('seed', best.confirmed_on)}, which "
            f"had no part in the choice; those that had give {accuracy(best.accuracy_when_chosen)}."
        )
    elif best.arms > 1:
        yield (
            f"{among}, and its accuracy is that of the same seeds, which flatters it (--confirm N "
            "runs it again on N others)."
        )


def _further(ahead: Difference) -> str:
    """How the test accuracy of the best stands to the next's."""
    more = "more" if ahead.mean >= 0 else "less"
    gap = ahead if ahead.mean >= 0 else _turned(ahead)
    return f"On the test set it is {points(gap)} {more} accurate"


def _turned(difference: Difference) -> Difference:
    """The same, of the other over the one."""
    return Difference(
        mean=-difference.mean,
        low=-difference.high,
        high=-difference.low,
        seeds=difference.seeds,
    )


def _price(best: Best, price: Price) -> str:
    """What choosing costs: of what the number is made, and what is not in it."""
    tuned = f", {price.tuned} of them in an earlier tuning" if price.tuned else ""
    seeds = ""
    if price.seeds > 1:
        seeds = (
            f" A setting is there all its seeds, up to {price.seeds}, composed, for it is judged "
            "by their mean; with one seed each it would be "
            f"{rounded_up(price.epsilon_of_one_seed, 2)}."
        )
    left_out = [
        *([f"{price.without_noise} that clip without noise"] if price.without_noise else []),
        *(
            [f"{price.other_neighbours} whose epsilon is for other neighbours"]
            if price.other_neighbours
            else []
        ),
        *([f"{price.uncounted} whose steps are not known"] if price.uncounted else []),
    ]
    without = f" Not in that number: {' and '.join(left_out)}." if left_out else ""
    return (
        f"Its epsilon of {rounded_up(best.epsilon, 2)} is that of one training, but "
        f"{strings.counted(price.settings, 'private setting')} in "
        f"{strings.counted(price.trainings, 'training')} have seen this data{tuned}. No such bound "
        "holds for the best of a fixed grid. The best of a random number of these settings drawn "
        f"at random, {price.settings} on average, spends {rounded_up(price.epsilon, 2)} "
        "(Papernot and Steinke 2022), which does not protect the examples that it is chosen by."
        f"{seeds}{without}"
    )


def weak(answers: Sequence[Answer], against: Baseline | None) -> Iterator[str]:
    """Of each answer that beats the best non-private setting, why that is no upper limit."""
    for answer in answers:
        if answer.best is not None and answer.best.verdict == "beats":
            lost = _lost(answer.best, against)
            yield f"Within epsilon {answer.epsilon_at_most:g} the setting {lost}."


def _lost(best: Best, against: Baseline | None) -> str:
    if best.loss is None or best.verdict is None:
        if against is None or against.metric != best.metric:
            return "with no non-private trial to say what it loses"
        return f"and the best non-private setting reaches {_reached(against)}"
    unit = " points" if best.metric == "accuracy" else " points of accuracy"
    match best.verdict:
        case "loses":
            return f"loses {points(best.loss, unit)} against the best non-private setting"
        case "not-told-apart":
            one = "" if best.loss.seeds > 1 else " by one seed"
            return f"is not told apart from the best non-private setting{one} ({_gap(best.loss)})"
        case "beats":
            return (
                f"loses nothing: it is {points(_turned(best.loss))} more accurate than the best "
                f"non-private setting, which is no upper limit here ({_weak(against)})"
            )


def _gap(loss: Difference) -> str:
    """How far the private setting is from the non-private, whichever is ahead."""
    less = "less" if loss.mean > 0 else "more"
    return f"{points(loss if loss.mean > 0 else _turned(loss))} {less} accurate"


def _weak(against: Baseline | None) -> str:
    """Why a private setting may beat the non-private one, as far as the trials show."""
    if against is None:
        return "its trials are too few to say why"
    rates = against.learning_rates
    if len(rates) == 1:
        return f"it was tried at learning rate {rates[0]:g} alone"
    if against.best_epoch < against.epochs:
        return f"it is over-fitted: its accuracy was higher at epoch {against.best_epoch}"
    tried = f"of learning rates {', '.join(f'{rate:g}' for rate in rates)}"
    if against.learning_rate in (rates[0], rates[-1]):
        return f"{tried} it is best at the last, so that a better may lie beyond"
    return f"{tried} it is best in the middle: longer training or momentum may do more"


def _time(step_times: Sequence[StepTime]) -> str:
    if not step_times:
        return "what it costs in time was not measured"
    own, *others = step_times
    times, low, high = ratio(own.ratio, own.low, own.high)
    text = (
        f"a step of that batch size takes {times} times as long as a non-private one by "
        f"{own.engine} ({low} to {high})"
    )
    peer = next((each for each in others if engines.spec(each.engine).family == FAMILY), None)
    return text if peer is None else f"{text}, {peer.ratio:.2f} times by {peer.engine}"


def of_metric(answers: Sequence[Answer]) -> Iterator[str]:
    """What the chosen settings reach in the metric they were chosen by, if it is not accuracy."""
    found = [answer for answer in answers if answer.best and answer.best.metric != "accuracy"]
    reached = [
        f"{answer.best.test_metric:.4g} within epsilon {answer.epsilon_at_most:g}"
        for answer in found
        if answer.best is not None
    ]
    if reached and found[0].best is not None:
        name = found[0].best.metric
        better = "lower" if metrics.lower_is_better(name) else "higher"
        yield (
            f"Settings are chosen by {_metric(name)} ({better} is better); on the test set it is "
            f"{', '.join(reached)}."
        )


def _reached(found: Baseline | Best) -> str:
    """The accuracy or, where it was chosen by another metric, that too."""
    if found.metric == "accuracy":
        return accuracy(found.accuracy)
    reached = f"{_metric(found.metric)} {found.test_metric:.4g}"
    if math.isnan(found.accuracy.mean):
        return reached
    return f"{reached} and accuracy {accuracy(found.accuracy)}"


def _metric(name: str) -> str:
    """The metric's name in a sentence."""
    named = metrics.named(name)
    return {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}.get(named, named)


def _set(chosen_by: str) -> str:
    """Of which examples the column is: `validation` or `test`."""
    return chosen_by.partition("_")[0]
