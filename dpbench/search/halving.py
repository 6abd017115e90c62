"""Successive halving: all settings train for a short while, the best of them for longer.

Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization"
(2016): of n settings, ceil(n / eta) go on to eta times as many epochs. Synchronous: a rung is
judged when all of it has ended, so that the outcome depends on no order in time.
"""

import math
from collections.abc import Hashable, Sequence

ETA = 4  # by default one in four goes on
_MOST_RUNGS = 3  # E / 16, E / 4 and E epochs


def rungs(epochs: int, eta: int) -> int:
    """How many rungs a training of so many epochs has: those that differ."""
    return len({_rung_epochs(epochs, eta, above) for above in range(_MOST_RUNGS)})


def rung_epochs(epochs: int, eta: int, rung: int, rungs: int) -> int:
    """Epochs on a rung of a training that has so many on the last one.

    Args:
        epochs: On the last rung.
        eta: How many times as long a rung is as the one before it.
        rung: From 0.
        rungs: How many there are.
    """
    return _rung_epochs(epochs, eta, rungs - 1 - rung)


def _rung_epochs(epochs: int, eta: int, above: int) -> int:
    return max(1, epochs // int(eta**above))


def promoted(scores: Sequence[float], groups: Sequence[Hashable], eta: int) -> list[int]:
    """Positions of those that go on, rising: of each group the ceil(n / eta) of the best scores.

    Of equal scores the first. One without a score has failed: it counts in n and does not go on.

    Args:
        scores: Higher is better; NaN where there is none.
        groups: In which each is compared.
        eta: At least 2.
    """
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    found = []
    for of_group in members.values():
        ranked = sorted(
            (each for each in of_group if not math.isnan(scores[each])),
            key=lambda each: -scores[each],
        )
        found += ranked[: math.ceil(len(of_group) / eta)]
    return sorted(found)
