"""Numbers as text: accuracies, points, ratios, settings."""

import math

import pandas as pd

from dpbench import strings
from dpbench.analysis.answers import Accuracy, Setting
from dpbench.analysis.statistics import Difference
from dpbench.trial import DEFAULT_MODEL

ACCOUNTANTS = {"pld": "PLD", "prv": "PRV", "rdp": "RDP", "gaussian": "Gaussian"}


def short(value: float) -> str:
    """The number in three digits, with 1e-5 and 1e6, and not 1e-05 and 1e+06."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def setting(chosen: Setting) -> str:
    """A setting under the names of the flags."""
    parts = [
        *([f"model {chosen.model}"] if chosen.model != DEFAULT_MODEL else []),
        f"noise multiplier {chosen.noise_multiplier:g}",
        f"clipping norm {chosen.max_grad_norm:g}",
        *([f"{chosen.clipping} clipping"] if chosen.clipping != "flat" else []),
        f"batch size {chosen.batch_size}",
        *([f"optimizer {chosen.optimizer}"] if chosen.optimizer != "sgd" else []),
        f"learning rate {chosen.learning_rate:g}",
        *([f"momentum {chosen.momentum:g}"] if chosen.momentum else []),
        *(["shuffled batches"] if chosen.sampling != "poisson" else []),
    ]
    return f"{', '.join(parts)} and {strings.counted(chosen.epochs, 'epoch')}"


def accuracy(seen: Accuracy, seeds: str = " ({} seeds)") -> str:
    """Percent, with its 95 % interval where there are several seeds.

    As half its width where it lies within the scale, else by its ends. Where there is none that
    says more, the range of the seeds. Where targets are no classes there is no accuracy.
    """
    if math.isnan(seen.mean):
        return "no accuracy"
    mean = f"{100 * seen.mean:.2f}"
    if seen.seeds < 2:
        return f"{mean} %"
    if math.isnan(seen.low):
        return f"{mean} % ({seen.seeds} seeds from {100 * seen.least:.2f} to {100 * seen.most:.2f})"
    if seen.low < 0 or seen.high > 1:
        ends = f"{100 * max(seen.low, 0):.2f} to {100 * min(seen.high, 1):.2f}"
        return f"{mean} % ({ends}{f', {seen.seeds} seeds' if seeds else ''})"
    return f"{mean} ± {100 * (seen.high - seen.mean):.2f} %{seeds.format(seen.seeds)}"


def points(difference: Difference, unit: str = " points") -> str:
    """Percentage points, with the interval where there is one."""
    shown = f"{100 * difference.mean:.2f}{unit}"
    if math.isnan(difference.low):
        return shown
    return f"{shown} ({100 * difference.low:.2f} to {100 * difference.high:.2f})"


def ratio(middle: float, low: float, high: float) -> tuple[str, str, str]:
    """The numbers in as many digits: two, or three where two do not tell the ends apart."""
    digits = 3 if f"{low:.2f}" == f"{high:.2f}" else 2
    return f"{middle:.{digits}f}", f"{low:.{digits}f}", f"{high:.{digits}f}"


def listed(values: "pd.Series[float]") -> str:
    """The distinct values, rising: 1, 2 and 3."""
    levels = [f"{value:g}" for value in sorted(values.unique())]
    return levels[0] if len(levels) == 1 else f"{', '.join(levels[:-1])} and {levels[-1]}"
