"""Trials to a dask.distributed cluster that somebody has started, and their rows back.

Only trials travel out, and rows back: workers have dpbench, torch and the data themselves.
"""

from dpbench.cluster.placing import Cluster
from dpbench.cluster.scheduler import Address, connected

__all__ = ["Address", "Cluster", "connected"]
