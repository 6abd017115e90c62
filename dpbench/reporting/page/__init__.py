"""A report's contents -> one HTML file that needs no other: no network, no script to be read."""

from dpbench.reporting.page.contents import Contents
from dpbench.reporting.page.render import render
from dpbench.reporting.page.tables import (
    Table,
    arms_table,
    confirmations_table,
    failures_table,
    provenance_table,
)

__all__ = [
    "Contents",
    "Table",
    "arms_table",
    "confirmations_table",
    "failures_table",
    "provenance_table",
    "render",
]
