"""What a page says, ready to be laid out."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpbench.analysis.answers import Answer, Baseline
from dpbench.analysis.private_best import PrivateBest
from dpbench.reporting.figure_files import Picture
from dpbench.reporting.page.tables import Table
from dpbench.store.history import Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What can be taken along of an answer.

    Attributes:
        name: What it is.
        text: It.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An answer with what the page adds to it.

    Attributes:
        answer: It.
        row: The id of its setting's row in the table of arms; None where it has none.
        recipes: What can be taken along.
    """

    answer: Answer
    row: str | None
    recipes: Sequence[Recipe]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A page.

    Attributes:
        name: Of the store.
        facts: What was run, in a line.
        warnings: What is missing or stands for something else.
        baseline: What losses are counted from.
        answers: One for each epsilon and sampling.
        notes: What holds for all answers.
        pictures: The figures.
        tables: Every arm, the confirmations, the failures, the provenance.
        sweeps: The commands that made the trials.
        shuffled: Whether any of them drew shuffled batches.
        private: The best run of each private search.
    """

    name: str
    facts: str
    warnings: Sequence[str]
    baseline: Baseline | None
    answers: Sequence[Shown]
    notes: Sequence[str]
    pictures: Sequence[Picture]
    tables: Sequence[Table]
    sweeps: Sequence[Sweep]
    shuffled: bool
    private: Sequence[PrivateBest] = ()
