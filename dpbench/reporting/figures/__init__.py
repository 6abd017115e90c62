"""Frame -> matplotlib Figure, and the frame of the numbers that it draws. No files.

Colours are seaborn's colour-blind palette, and levels differ also by marker. No panel holds more
than six lines, and no row more than three panels.
"""

from dpbench.reporting.figures.cells import accuracy_cells, accuracy_cells_numbers
from dpbench.reporting.figures.comparison import differences
from dpbench.reporting.figures.curves import learning_curves, learning_curves_numbers
from dpbench.reporting.figures.loss import accuracy_loss, accuracy_loss_numbers
from dpbench.reporting.figures.overhead import overhead, overhead_numbers, step_memory
from dpbench.reporting.figures.privacy import privacy_accuracy, privacy_accuracy_numbers

__all__ = [
    "accuracy_cells",
    "accuracy_cells_numbers",
    "accuracy_loss",
    "accuracy_loss_numbers",
    "differences",
    "learning_curves",
    "learning_curves_numbers",
    "overhead",
    "overhead_numbers",
    "privacy_accuracy",
    "privacy_accuracy_numbers",
    "step_memory",
]
