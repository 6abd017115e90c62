"""Runs the timings that a store lacks, and writes each once all of its processes have ended."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from dpbench import store, strings
from dpbench.execution import plan
from dpbench.execution.backend import Backend
from dpbench.execution.progress import Progress
from dpbench.execution.schedule import Row
from dpbench.execution.timing_task import processes_of
from dpbench.trial import DEFAULT_MODEL, Trial, Workload


def timing_name(engine: str, workload: Workload, device: str) -> str:
    """Begins the name of a timing's file: see `store.write_timings`.

    The default model is left out, as in the files of older versions.
    """
    data = workload.dataset
    if workload.model != DEFAULT_MODEL:
        data += f"-{workload.model}"
    data = strings.file_name(data)
    return f"{data}-{engine}-{workload.batch_size}-{device.replace(':', '-')}"


def run_timings(trials: Sequence[Trial], backend: Backend, out: Path, *, quiet: bool) -> list[str]:
    """Measures the overheads that are missing, those of one batch size after those of another.

    Returns:
        A line for each that has failed. The next run tries it again.
    """
    known = store.read_timings(out)
    todo = plan.untimed(trials, known, {} if known.empty else backend.conditions())
    engines: dict[Workload, list[str]] = {}
    for engine, workload in todo:
        engines.setdefault(workload, []).append(engine)
    failed = []
    parts = sum(processes_of(workload) for _, workload in todo)
    with timing_progress(len(todo), parts, quiet=quiet) as progress:
        for workload, names in engines.items():
            with closing(backend.time_engines(names, workload)) as measured:
                for rows in whole_timings(measured, processes_of(workload), progress):
                    write_timing(out, rows)
                    if rows[0]["status"] != "ok":
                        failed.append(failed_timing(rows))
    return failed


def timing_progress(count: int, parts: int, *, quiet: bool) -> Progress:
    """The progress of so many timings, which are measured in so many processes together."""
    return Progress(count, parts, parts, what="timings", part="processes", quiet=quiet)


def whole_timings(
    parts: Iterable[list[Row]], processes: int, progress: Progress
) -> Iterator[list[Row]]:
    """All rows of each timing once it has been measured in so many processes, or has failed.

    Args:
        parts: As of `Backend.time_engines`, of one batch size.
        processes: That each is measured in.
        progress: Counts each process, whose work is 1, and each timing that ends.
    """
    before: dict[str, list[list[Row]]] = {}
    for part in parts:
        of_engine = before.setdefault(part[0]["engine"], [])
        left = processes - len(of_engine)
        of_engine.append(part)
        failed = part[0]["status"] != "ok"
        if not failed and left > 1:
            progress.advance(1, work=1)
            continue
        rows = part if failed else [row for each in of_engine for row in each]
        line = f"{_named(part)}: {timing_outcome(rows)}"
        progress.done(line, parts=left, work=left, failed=failed)
        yield rows


def write_timing(out: Path, rows: Sequence[Row]) -> None:
    """Writes a whole timing into the store; see `store.write_timings`."""
    row = rows[0]
    workload = Workload(**{field.name: row[field.name] for field in fields(Workload)})
    store.write_timings(out, timing_name(row["engine"], workload, row["device"]), rows)


def failed_timing(rows: Sequence[Row]) -> str:
    """The line that says why a timing has failed."""
    return f"The timing of {_named(rows)}: {timing_outcome(rows)}"


def _named(rows: Sequence[Row]) -> str:
    return "{engine} batch {batch_size} on {device}".format_map(rows[0])


def timing_outcome(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a timing came to, or why it failed, in a few words."""
    if rows[0]["status"] != "ok":
        return f"{rows[0]['status']}: {strings.one_line(rows[0]['reason'])}"
    ratios: dict[int | None, list[float]] = {}
    for row in rows:
        ratio = row["seconds_per_step"] / row["baseline_seconds_per_step"]
        ratios.setdefault(row["process"], []).append(ratio)
    median = statistics.median(map(statistics.median, ratios.values()))
    return f"{median:.2f} x non-private"
