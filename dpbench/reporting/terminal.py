"""A written report's answers for a terminal or, as JSON, for a script."""

from dataclasses import asdict

from dpbench import console, strings
from dpbench.reporting import text
from dpbench.reporting.store_report import Written

JSON_VERSION = 2


def as_text(written: Written) -> str:
    """Facts, warnings, a table of answers for each way to draw batches, notes, and the page."""
    groups = text.by_sampling(written.answers)
    tables = []
    for title, answers in groups:
        head, _, rest = text.table(answers).partition("\n")
        tables += [*([title] if len(groups) > 1 else []), console.bold(head), rest]
    first = [written.facts, *written.warnings, text.baseline(written.baseline)]
    others = (
        f" (of {strings.counted(written.others, 'other trial')}, too)" if written.others else ""
    )
    return "\n".join(
        [
            *map(strings.printable, first),
            *tables,
            *map(strings.printable, (*text.weak(written.answers, written.baseline),)),
            *map(strings.printable, written.notes),
            f"page: {written.page}{others}",
        ]
    )


def as_json(written: Written) -> str:
    """One JSON object; numbers have all their digits."""
    return strings.json_text(
        schema_version=JSON_VERSION, **asdict(written) | {"page": str(written.page)}
    )
