"""A store: a results directory of parquet files, `trials/` and `timings/`.

A trial is a file, which appears whole or not at all; see README.md of this folder. What other
packages use is named here; `history` and `claims` are modules of their own.
"""

from dpbench.store.compaction import compact
from dpbench.store.reader import (
    failed_timings,
    finished,
    load,
    read_timings,
    read_trials,
    states,
)
from dpbench.store.removal import drop
from dpbench.store.schema import (
    SCHEMA_VERSION,
    TIMINGS,
    TRIALS,
    failed_timing_row,
    timing_row,
    trial_row,
)
from dpbench.store.sources import write as write_sources
from dpbench.store.writer import create, file_of, set_aside, write_timings, write_trial

__all__ = [
    "SCHEMA_VERSION",
    "TIMINGS",
    "TRIALS",
    "compact",
    "create",
    "drop",
    "failed_timing_row",
    "failed_timings",
    "file_of",
    "finished",
    "load",
    "read_timings",
    "read_trials",
    "set_aside",
    "states",
    "timing_row",
    "trial_row",
    "write_sources",
    "write_timings",
    "write_trial",
]
