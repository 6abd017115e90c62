"""The HTML page of a report: one file that needs no network and no script."""

from dpbench.reporting.page.contents import Contents, Recipe, Shown
from dpbench.reporting.page.render import render
from dpbench.reporting.page.tables import (
    Table,
    arm_of,
    arms_table,
    confirmations_table,
    failures_table,
    provenance_table,
    row_id,
    sorted_arms,
)

__all__ = [
    "Contents",
    "Recipe",
    "Shown",
    "Table",
    "arm_of",
    "arms_table",
    "confirmations_table",
    "failures_table",
    "provenance_table",
    "render",
    "row_id",
    "sorted_arms",
]
