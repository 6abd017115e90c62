"""Tasks that are each measured in several fresh processes, one process after the other.

What differs between processes, as the addresses of their memory, changes a step's speed by more
than repeating it within one of them shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dpbench.processes.worker_pool import Crew

_SLOT = 0  # of the only worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one task came to in one process.

    Attributes:
        task: Its number.
        process: From 0.
        items: What it has sent.
        died: How its process died of it, as `killed by SIGKILL`; None where it did not.
    """

    task: int
    process: int
    items: Sequence[Any]
    died: str | None


def passes(
    tasks: Sequence[tuple[Any, ...]], workers: Crew, processes: int, given_up: set[int]
) -> Iterator[Part]:
    """What each task came to in each of so many processes, all tasks in the first process first.

    Only one process runs at a time, and does nothing until the next part is asked for. Where it
    dies of a task, another one does the rest of its pass.

    Args:
        tasks: The arguments of each, which follow the number of the process.
        workers: Without any worker yet.
        processes: That each task is done in.
        given_up: Numbers of tasks that are not done any more. Whoever iterates may add to them.
    """
    for process in range(processes):
        for task, arguments in enumerate(tasks):
            if task not in given_up:
                yield _part(task, process, arguments, workers)
        if _SLOT in workers.free:
            workers.dismiss(_SLOT)


def _part(task: int, process: int, arguments: tuple[Any, ...], workers: Crew) -> Part:
    """What the task comes to in the worker, which is hired where there is none."""
    items: list[Any] = []
    if not workers.free:
        workers.hire(_SLOT)
        (event,) = workers.events(None)
        if event.kind == "died":
            return Part(task=task, process=process, items=items, died=str(event.value))
    workers.give(_SLOT, process, *arguments)
    while True:
        (event,) = workers.events(None)
        if event.kind != "item":
            died = str(event.value) if event.kind == "died" else None
            return Part(task=task, process=process, items=items, died=died)
        items.append(event.value)
