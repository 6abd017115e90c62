"""python -m dpbench.report: a store -> one HTML page, and its figures with their numbers."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpbench import cli, console, question, strings
from dpbench.errors import BadInput

if TYPE_CHECKING:
    from dpbench.analysis.recommendation import Answer, Baseline
    from dpbench.reporting.figure_specs import Drawn
    from dpbench.reporting.page import Picture
    from dpbench.store.history import Sweep

JSON_VERSION = 2
_SVG_SALT = "dpbench"  # so that the same frame is the same bytes
_CSS_PIXELS = 96  # an inch


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A report that was written, and what it answers: for a sweep, of its own trials alone.

    Attributes:
        page: Its path.
        facts: What was run, in a line.
        warnings: What is missing from the answer or stands for something else.
        dataset: That the answers are of; None where no trial has run.
        delta: Of their epsilons; None where no private trial has run.
        baseline: What losses are counted from.
        answers: One for each epsilon and way to draw batches.
        notes: What holds for all answers.
        finished: Trials, those that confirm included.
        failed: Trials.
        others: Trials of the store that are not these, and that the page answers for, too.
    """

    page: Path
    facts: str
    warnings: Sequence[str]
    dataset: str | None
    delta: float | None
    baseline: "Baseline | None"
    answers: "Sequence[Answer]"
    notes: Sequence[str]
    finished: int
    failed: int
    others: int


def write(
    root: Path, *, own: "Sweep | None" = None, answer_at: Sequence[float] = ()
) -> Written | None:
    """Writes the store's page, and its figures as SVG, PNG and CSV beside it.

    None, and no file, where the store holds neither a trial nor a timing.

    Args:
        root: The store.
        own: The sweep whose trials are answered for; None for the whole store, as the page is.
        answer_at: Epsilons to answer at; none for those that the store's sweeps asked for.

    Raises:
        BadInput: The store cannot be read, or its folder cannot be written to.
    """
    from dpbench import analysis, store
    from dpbench.privacy import accounting
    from dpbench.reporting import figure_specs, findings, page
    from dpbench.store import history

    trials, timings = store.read_trials(root), store.read_timings(root)
    if trials.empty and timings.empty:
        return None
    trials = accounting.by_one_accountant(trials)
    sweeps = history.read(root)
    confirming = trials["trial_id"].isin(history.confirmations(sweeps))
    tuning, unread = findings.tuning(root, trials, sweeps)
    read = findings.Store(trials=trials, timings=timings, tuning=tuning)
    told = findings.findings(read, trials, sweeps, answer_at)
    timed = analysis.timed_alike(timings[timings["dataset"] == told.dataset])
    drawn = figure_specs.figures_of(told.main, timed, told.answers)
    contents = page.Contents(
        name=root.resolve().name,
        facts=told.facts,
        warnings=[*told.warnings, *unread],
        baseline=told.baseline,
        answers=told.answers,
        notes=told.notes,
        pictures=[_picture(root, each) for each in drawn],
        tables=(
            page.arms_table(trials[~confirming]),
            page.confirmations_table(trials[confirming]),
            page.failures_table(trials),
            page.provenance_table(trials, timings),
        ),
        sweeps=sweeps,
        shuffled=bool((trials["sampling"] == "shuffle").any()),
    )
    path = root / "report.html"
    _write(path, page.render(contents))
    rows = trials
    if own is not None:
        rows = trials[trials["trial_id"].isin({*own.trial_ids, *own.confirming})]
        told = findings.findings(read, rows, [own], answer_at)
    main = told.main
    return Written(
        page=path,
        facts=told.facts,
        warnings=[*told.warnings, *unread],
        dataset=None if main.empty else told.dataset,
        delta=main["delta"].max() if main["delta"].notna().any() else None,
        baseline=told.baseline,
        answers=told.answers,
        notes=told.notes,
        finished=analysis.final(rows)["trial_id"].nunique(),
        failed=analysis.failures(rows)["trial_id"].nunique(),
        others=trials["trial_id"].nunique() - rows["trial_id"].nunique(),
    )


def _picture(root: Path, drawn: "Drawn") -> "Picture":
    """The figure as an image, its files written."""
    from dpbench.reporting.page import Picture

    if drawn.figure is None:
        for suffix in (".svg", ".png", ".csv"):  # of an earlier report
            (root / f"{drawn.name}{suffix}").unlink(missing_ok=True)
        return Picture(drawn=drawn, svg=None, csv="", width=0, height=0)
    drawn.figure.draw_without_rendering()
    drawn.figure.set_layout_engine("none")  # it is laid out, and once is enough
    svg = _image(drawn, "svg")
    csv = drawn.numbers.to_csv(index=False)
    _write(root / f"{drawn.name}.svg", svg)
    _write(root / f"{drawn.name}.png", _image(drawn, "png"))
    _write(root / f"{drawn.name}.csv", csv)
    width, height = (round(_CSS_PIXELS * inches) for inches in drawn.figure.get_size_inches())
    return Picture(drawn=drawn, svg=svg, csv=csv, width=width, height=height)


def _image(drawn: "Drawn", kind: str) -> bytes:
    """The figure's bytes, the same each time."""
    import warnings

    import matplotlib as mpl

    assert drawn.figure is not None
    content = io.BytesIO()
    with (
        mpl.rc_context({"svg.hashsalt": _SVG_SALT, "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands in its place
        drawn.figure.savefig(
            content, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None}
        )
    return content.getvalue()


def _write(path: Path, content: str | bytes) -> None:
    from dpbench.store import files

    if isinstance(content, str):  # with names of files that may not be UTF-8
        content = content.encode("utf-8", "backslashreplace")
    try:
        files.write_bytes(path, content)
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from error


def answer(written: Written, *, as_json: bool) -> str:
    """The answer for a terminal or, as JSON with all its digits, for a script."""
    from dpbench.reporting import text

    if as_json:
        return strings.json_text(
            schema_version=JSON_VERSION, **asdict(written) | {"page": str(written.page)}
        )
    groups = text.by_sampling(written.answers)
    tables = []
    for title, answers in groups:
        head, _, rest = text.table(answers).partition("\n")
        tables += [*([title] if len(groups) > 1 else []), console.bold(head), rest]
    said = [written.facts, *written.warnings, text.baseline(written.baseline)]
    others = (
        f" (of {strings.counted(written.others, 'other trial')}, too)" if written.others else ""
    )
    return "\n".join(
        [
            *map(strings.printable, said),
            *tables,
            *map(strings.printable, (*text.weak(written.answers, written.baseline),)),
            *map(strings.printable, written.notes),
            f"page: {written.page}{others}",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return cli.run(_parser(), arguments, _report)


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m dpbench.report", __doc__, "0 all well; 2 bad input; 4 nothing to report on"
    )
    parser.add_argument("store", type=Path, metavar="results/NAME", help="a sweep's folder")
    parser.add_argument(
        "--answer-at",
        type=float,
        nargs="+",
        metavar="E",
        help="epsilons to answer at (default: those that its sweeps asked for, else 1 3 8)",
    )
    cli.add_output_flags(parser)
    return parser


def _report(given: argparse.Namespace) -> int:
    root = given.store
    if not os.path.isdir(root):  # noqa: PTH112  # pathlib's raises where a name is too long
        raise BadInput(f"There is no folder {root}: name one that a sweep has written.")
    asked = () if given.answer_at is None else question.epsilons(given.answer_at)
    written = write(root, answer_at=asked)
    if written is None:
        print(f"{root} holds no trial and no timing yet.", file=sys.stderr)
        return cli.EXIT_NOTHING
    if not given.quiet:
        print(answer(written, as_json=given.json))
    return 0


if __name__ == "__main__":
    sys.exit(main())
