"""Trials to a dask.distributed cluster that the user has started, and their rows back.

Only trials travel out, with the sources of users' models and data, and rows back: workers have
dpbench, torch and the data themselves.
"""

from dpbench.execution.cluster.dask_backend import DaskBackend
from dpbench.execution.cluster.scheduler import Address, connected

__all__ = ["Address", "DaskBackend", "connected"]
