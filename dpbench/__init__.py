"""What differential privacy costs: privacy, accuracy and speed of DP-SGD, measured.

    import dpbench

    grid = dpbench.Grid(noise_multiplier=[1.0, 2.0], batch_size=64, epochs=2)
    frame = dpbench.run_sweep(grid, dataset="digits", out="results/mine")

The names below are the public API. Each is imported when it is first used, so that
`import dpbench` loads neither torch nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpbench.analysis.comparison.stores import compare_stores
    from dpbench.datasets.data import Data
    from dpbench.errors import BadInput, DpbenchError
    from dpbench.execution.audits import run_audit
    from dpbench.execution.grid import Grid
    from dpbench.execution.step_times import time_steps
    from dpbench.execution.sweeps import run_sweep
    from dpbench.privacy.calculator import spent_epsilon
    from dpbench.search.ranges import Range
    from dpbench.store.frames import load_store
    from dpbench.trial import Trial

__version__ = "0.1.0"

_HOMES = {
    "BadInput": "errors",
    "Data": "datasets.data",
    "DpbenchError": "errors",
    "Grid": "execution.grid",
    "Range": "search.ranges",
    "Trial": "trial",
    "compare_stores": "analysis.comparison.stores",
    "load_store": "store.frames",
    "run_audit": "execution.audits",
    "run_sweep": "execution.sweeps",
    "spent_epsilon": "privacy.calculator",
    "time_steps": "execution.step_times",
}

__all__ = [
    "BadInput",
    "Data",
    "DpbenchError",
    "Grid",
    "Range",
    "Trial",
    "__version__",
    "compare_stores",
    "load_store",
    "run_audit",
    "run_sweep",
    "spent_epsilon",
    "time_steps",
]


if not TYPE_CHECKING:  # for a type checker the names above are all there are

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"dpbench.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
