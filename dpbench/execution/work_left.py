"""How much work trials still need, however it is spread over workers."""

from collections.abc import Mapping, Sequence

from dpbench.trial import Trial


class WorkLeft:
    """The work that trials still need.

    Args:
        trials: In the order in which they start, the costliest first.
        cost: Of each, by its id, in any one unit.
    """

    def __init__(self, trials: Sequence[Trial], cost: Mapping[str, float]) -> None:
        self._waiting = {trial.trial_id: cost[trial.trial_id] for trial in trials}
        self._running: dict[str, float] = {}
        self._at_once = 1
        self._sum = sum(self._waiting.values())

    def note(self, trial: Trial, left: float) -> None:
        """Notes what the trial needs from now on: 0 once it has ended."""
        name = trial.trial_id
        before = self._waiting.pop(name) if name in self._waiting else self._running.pop(name, 0.0)
        self._sum += left - before
        if left > 0:
            self._running[name] = left
            self._at_once = max(self._at_once, len(self._running))

    def along_the_longest(self) -> float:
        """The work that could be done in the time that the trials take.

        More than they need where at the end one runs alone: no two workers share a trial.
        """
        longest = max([*self._running.values(), next(iter(self._waiting.values()), 0.0)])
        return max(0.0, self._sum, longest * self._at_once)
