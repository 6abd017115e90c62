"""The numbers that drawn artists hold."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes


def lines(panel: Axes) -> list[Any]:
    """(x, y) of every line."""
    return [
        (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in panel.get_lines()
    ]
