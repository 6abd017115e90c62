"""The best run of a private search, for a terminal, as JSON, and for a page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dpbench import console, strings
from dpbench.privacy import guarantee

if TYPE_CHECKING:
    from dpbench.analysis.private_best import PrivateBest
    from dpbench.privacy.run_count import RunCount
    from dpbench.store.private_searches import PrivateSearch

JSON_VERSION = 1
KEEP_PRIVATE = (
    "Publish the best run alone: its model, its setting, its scores and this paragraph. The store "
    "and its page hold the other runs, their number and the seeds of the noise: keep them private."
)
_PLANNED = (
    *("distribution", "mean", "sampling", "delta", "epsilon", "epsilon_of_run", "noises"),
    *("noise_multipliers", "schedules", "examples", "held_out", "score_noise"),
)


class Found(Protocol):
    """A private search that has run."""

    @property
    def best(self) -> "PrivateBest":
        """Its best run."""

    @property
    def page(self) -> Path | None:
        """The report's path."""


def as_text(found: Found) -> str:
    """The best run, the guarantee, and what must not be published."""
    best = found.best
    page = [f"page: {found.page}"] if found.page else []
    return "\n".join(
        [
            *(console.wrapped(strings.printable(line)) for line in lines(best)),
            "",
            console.wrapped(best.statement),
            "",
            console.wrapped(KEEP_PRIVATE),
            *page,
        ]
    )


def lines(best: "PrivateBest") -> Iterator[str]:
    """The best run and what the search spends, a line each."""
    spent = f"epsilon {guarantee.rounded_up(best.epsilon)} at delta {guarantee.short(best.delta)}"
    if not best.ended:
        yield f"Some runs have not ended: the best is not known. The whole search spends {spent}."
        return
    if best.trial_id is None:
        yield (
            "No run has ended well, or none was drawn: nothing can be published. The search has "
            f"spent its {spent} all the same."
        )
        return
    yield (
        f"Best: {_value(best.metric, best.score)} on held-out examples, "
        f"{_value(best.metric, best.test_metric)} on the test set, with {_setting(best)}."
    )
    yield f"The whole search spends {spent}."


def _value(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{metric} {value:.4g}"


def _setting(best: "PrivateBest") -> str:
    names = {
        "model": "model",
        "noise_multiplier": "noise multiplier",
        "max_grad_norm": "clipping norm",
        "batch_size": "batch size",
        "learning_rate": "learning rate",
        "epochs": "epochs",
    }
    parts = []
    for name, said in names.items():
        value = best.setting[name]
        parts.append(f"{said} {value:g}" if isinstance(value, float) else f"{said} {value}")
    return ", ".join(parts)


def several(bests: Sequence["PrivateBest"]) -> Iterator[str]:
    """The best runs of private searches, each with its guarantee; nothing where there are none."""
    for best in bests:
        yield "Private selection:"
        yield from lines(best)
        yield best.statement
    if bests:
        yield KEEP_PRIVATE


def as_json(found: Found) -> str:
    """One JSON object; numbers have all their digits."""
    return strings.json_text(
        schema_version=JSON_VERSION,
        private_selection=asdict(found.best),
        keep_private=KEEP_PRIVATE,
        page=None if found.page is None else str(found.page),
    )


def planned_json(search: "PrivateSearch", takes: Mapping[str, float]) -> str:
    """What a search would spend, before it is drawn, as one JSON object.

    Args:
        search: Priced.
        takes: How long it takes, by name.
    """
    values = {name: getattr(search, name) for name in _PLANNED}
    return strings.json_text(schema_version=JSON_VERSION, private_selection=values, **takes)


def planned(search: "PrivateSearch", count: "RunCount", takes: str) -> str:
    """What a search would spend, before it is drawn.

    Args:
        search: Priced.
        count: Of its runs.
        takes: How long it takes, as a sentence.
    """
    rows = [(f"{size:,}", f"{epochs}", f"{noise:g}") for size, epochs, noise in search.noises] or [
        ("any", "any", f"{search.noise_multipliers[0]:g} or more")
    ]
    spends = (
        f"The number of runs will be drawn from the {count.in_words}, "
        f"their settings at random. One run spends at most epsilon "
        f"{guarantee.rounded_up(search.epsilon_of_run)}, the whole search "
        f"{guarantee.rounded_up(search.epsilon)} at delta {guarantee.short(search.delta)}."
    )
    return "\n".join(
        [
            strings.table(("batch size", "epochs", "noise multiplier"), rows),
            console.wrapped(spends),
            console.wrapped(takes),
        ]
    )
