"""Many files of a store into few, and old files into today's columns.

A reader lists a folder and then opens its files. So the same rows must never stand in two files,
nor in none, and a folder is exchanged as a whole, at one instant. Every file has another name
afterwards: whoever lists before the exchange and opens after it is told that a file is gone, and
never sees a part of the rows. (Files that grow in place would not do: duckdb and polars open a
file twice, and fail when it has changed in between.)
"""

import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pyarrow as pa

from dpbench import store
from dpbench.store import files, outcomes
from dpbench.store.schema import SCHEMAS, lacking

MANY = 500  # files of one trial each; reading more of them takes a second and more

_log = logging.getLogger(__name__)
_GENERATION = re.compile(r"-g(\d+)$")  # ends the names of files that have been through it


def compact(root: Path) -> None:
    """Folds finished trials where they have many files; rewrites files that lack a column.

    Readers take one file's columns for those of all, so they must be the same. A trial that failed
    keeps its own file, to be replaced when it is tried again; and so does one that another file
    holds, too; and so does one with columns that we do not know. Damaged files are set aside. A
    folder that is a link stays as it is.

    Raises:
        BadInput: The store cannot be written to. It is as it was.
    """
    with store.writing(root):
        for name, schema in SCHEMAS.items():
            names = _column_names(root, name)
            ours = {path: columns for path, columns in names.items() if _is_ours(columns, schema)}
            old = {path for path, columns in ours.items() if columns != schema.names}
            single = {path for path in ours if not path.name.startswith(store.PART)}
            many = single if name == "trials" and len(single) >= MANY else set()
            if (old or many) and (root / name).is_symlink():
                _log.warning("%s is a link: its files stay as they are, one a trial.", root / name)
            elif old or many:
                _exchange(root, name, list(names), rewritten=old | many, folded=many)


def _exchange(
    root: Path, name: str, paths: Sequence[Path], *, rewritten: set[Path], folded: set[Path]
) -> None:
    """Puts a folder in place in which some are rewritten, and some of those folded into parts."""
    generation = 1 + max((int(_split(path)[1]) for path in paths), default=0)
    tables: dict[str, pa.Table] = {}
    finished: list[pa.Table] = []
    kept: dict[str, Path] = {}
    parts = [path for path in paths if path.name.startswith(store.PART)] if folded else []
    known = set().union(*map(store.ids_of, parts))
    for path in paths:
        label = f"{_split(path)[0]}-g{generation}.parquet"
        while label in kept or label in tables:  # of a copy of another generation
            label = f"again-{label}"
        if path not in rewritten:
            kept[label] = path
            continue
        try:
            rows = store.load_file(path, SCHEMAS[name])
        except files.Damaged as damage:
            store.set_aside(root, damage)
            continue
        ended = outcomes.of(rows) if path in folded else {}
        if path in folded and set(ended.values()) == {"ok"} and known.isdisjoint(ended):
            finished.append(rows)
            known.update(ended)
        else:
            tables[label] = rows
    for number, part in enumerate(_chunks(finished)):
        tables[f"{store.PART}{generation}.{number}-g{generation}.parquet"] = pa.concat_tables(part)
    files.replace_folder(root, name, paths, kept, tables)


def _is_ours(columns: Sequence[str], schema: pa.Schema) -> bool:
    """Whether a file of these columns can be written again without losing any of them."""
    return set(columns) <= set(schema.names) and not lacking(columns, schema)


def _column_names(root: Path, name: str) -> dict[Path, list[str]]:
    """The columns of each of the folder's files that can be read; the others are set aside."""

    def one(path: Path) -> list[str] | files.Damaged:
        try:
            return files.column_names(path)
        except files.Damaged as damage:
            return damage

    paths = store.parquet_files(root / name)
    with ThreadPoolExecutor(pa.cpu_count()) as threads:
        found = dict(zip(paths, threads.map(one, paths), strict=True))
    for damage in found.values():
        if isinstance(damage, files.Damaged):
            store.set_aside(root, damage)
    return {path: names for path, names in found.items() if not isinstance(names, files.Damaged)}


def _split(path: Path) -> tuple[str, str]:
    """The file's name without its generation, and that, from 0."""
    match = _GENERATION.search(path.stem)
    return (path.stem[: match.start()], match[1]) if match else (path.stem, "0")


def _chunks(tables: Sequence[pa.Table]) -> Iterator[list[pa.Table]]:
    """MANY at a time."""
    rest = iter(tables)
    while chunk := list(islice(rest, MANY)):
        yield chunk
