"""Tables in Markdown, and parts of a README that a script writes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dpbench.errors import BadInput


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with that head."""
    ruler = "|---" * len(head) + "|"
    return "\n".join([_line(head), ruler, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(path: Path, blocks: Mapping[str, str]) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- end of name -->` by each block.

    Raises:
        BadInput: The file cannot be read, or has not both comments of a block.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"Cannot read {path}: {error.strerror}.") from error
    for name, block in blocks.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, opened, rest = content.partition(start)
        _, closed, after = rest.partition(end)
        if not (opened and closed):
            raise BadInput(f"{path} has not the comments {start} and {end} in it: add them.")
        content = f"{before}{start}\n{block}\n{end}{after}"
    path.write_text(content, encoding="utf-8")
