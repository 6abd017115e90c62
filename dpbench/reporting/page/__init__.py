"""The HTML page of a report: one file that needs no network and no script."""

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
